"""A page of ``--explain`` in a real browser."""

import re

import pytest

from qpeft_rerank.rerank import main
from tests.explain.awkward import PASSAGES, page_of, texts_are_whole
from tests.seen import Seen


@pytest.mark.slow
def test_a_browser_shows_the_page_and_calls_nobody(command, tmp_path, browse) -> None:
    assert main(command("qpeft-a")) == 0
    dom, asked = browse(tmp_path / "page.html")
    assert asked == []
    seen = Seen(dom)
    (picker,) = seen.all("fieldset")
    assert "hidden" not in picker  # the script ran
    assert re.search(r'<i[^>]* title="attention \d\.\d{3}"', dom)
    assert len(seen.all("article")) == len(PASSAGES)
    assert len(seen.all("script")) == 1 and not seen.all("img")
    assert texts_are_whole(seen)

    # Choosing a query token draws its attention alone; the page's policy lets no further script do so.
    press = '<script>document.getElementById("token1").click()</script></body>'
    html = page_of(tmp_path)
    locked, open_ = tmp_path / "locked.html", tmp_path / "open.html"
    locked.write_text(html.replace("</body>", press), "utf-8")
    open_.write_text(re.sub(r"<meta http-equiv[^>]*>", "", html).replace("</body>", press), "utf-8")
    drawn = re.findall(r'<i class="(a\d)', dom)
    assert re.findall(r'<i class="(a\d)', browse(locked)[0]) == drawn
    assert re.findall(r'<i class="(a\d)', browse(open_)[0]) != drawn

    # What would go out is seen, or the first check would be worth nothing.
    (tmp_path / "calls.html").write_text('<img src="http://calls.invalid/i.png">', "utf-8")
    assert any("calls.invalid/i.png" in line for line in browse(tmp_path / "calls.html")[1])
