"""The report: its figures are those of the tables, it needs nothing else, and a browser shows it, on a phone too."""

import dataclasses
import json
import re
import shutil
import sys

import pytest

from eval import provenance, report
from eval.chain import Chain
from eval.conditions import conditions_of, parse_condition
from eval.design import FOLDER, load_matrix
from eval.figures import ablation, scatter
from eval.figures.style import looks
from eval.mixing import Scored, fuse
from eval.parts import Material
from eval.publish import read_measured
from eval.results import means
from eval.store import Store
from eval.versions import versions
from qpeft_rerank.trec.runs import Hit
from tests.eval import made
from tests.seen import Seen

pytest.importorskip("matplotlib", reason="figures need matplotlib")
METHODS = ("first-stage", "zero-shot", "lora", "qpeft-a")
EVIL = '</strong><script src="http://calls.invalid/s.js">alert(1)</script><img src=http://calls.invalid/i.png> & "Co"'


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Finished: the main table of two sets without Q-PEFT-A on SQuAD, dev runs of NQ, one ablation of NQ."""
    folder = tmp_path_factory.mktemp("report")
    matrix = folder / "matrix"
    shutil.copytree(FOLDER, matrix)
    path = matrix / "methods.yaml"
    path.write_text(path.read_text().replace("title: LoRA", f"title: 'LoRA {EVIL}'"))
    loaded = load_matrix(matrix)
    data = made.data_folder(folder / "data", ("nq", "squad"), 24)
    scale = dataclasses.replace(loaded.scales["mini"], model="no/model", depth=20, dev_queries=6)
    chain, store = Chain(scale, data, matrix / "prompts"), Store(folder / "work")
    table = dataclasses.replace(loaded.tables["main"], datasets=["nq", "squad"], methods=METHODS)
    listed = [one for one in conditions_of(loaded, table) if one.name != "squad.bm25.qpeft-a"]
    made.finish([one for one in listed if one.dataset.name == "nq"], chain, store, dev=True)
    made.finish(listed, chain, store)
    for value in (5, 10, 20):
        made.finish([parse_condition(loaded, f"nq.bm25.qpeft-r.k-{value}")], chain, store)
    return loaded, data, chain, store


@pytest.fixture(scope="module")
def words(place):
    loaded, data, _, store = place
    where = ["--data", str(data), "--work", str(store.work), "--matrix", str(loaded.folder)]
    return ["--model", "no/model", "--depth", "20", "--dev-queries", "6", *where]


@pytest.fixture(scope="module")
def html(words, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    assert report.main([*words, "--output", str(path)]) == 0
    return path.read_text("utf-8")


def test_tables_have_the_measured_figures(place, html):
    loaded, _, chain, store = place
    conditions = [parse_condition(loaded, f"nq.bm25.{method}") for method in METHODS]
    found = means(read_measured(conditions, chain, store), ["R@10", "H@10", "MRR@10"])
    seen = Seen(html)
    # Two data sets each (their rows differ, so they have no mean), the clean list first.
    for table, convention in zip(seen.tables[:4:2], ("clean", "full"), strict=True):
        rows = {row[0]: row[1:] for row in table[1:]}
        for title, cells in found[found.convention == convention].groupby("title"):
            values = dict(zip(cells.measure, cells["mean"], strict=True))
            shown = [float(cell.rstrip("†‡")) for cell in rows[title]]
            assert shown == pytest.approx([values[m] for m in ("R@10", "H@10", "MRR@10")], abs=0.005)
    counts = found.drop_duplicates("convention").set_index("convention").topics
    assert [f"{name} {count} topics" for name, count in (("NQ", counts.clean), ("NQ", counts.full))] == [
        seen.captions[0],
        seen.captions[2],
    ]
    best = found[(found.convention == "clean") & (found.measure == "R@10")]["mean"].max()
    assert f"<strong>{best:.2f}</strong>" in html
    assert "Not finished, so not shown: " in html and "squad.bm25.qpeft-a" in html


def test_a_better_row_has_its_dagger(html):
    """The made-up Q-PEFT-A is far better than the first stage."""
    row = next(row for row in Seen(html).tables[0] if row[0] == "Q-PEFT-A")
    assert any("†" in cell for cell in row[1:])


def test_every_figure_is_there_and_said_in_words(place, html):
    loaded, _, chain, store = place
    seen = Seen(html)
    pictures = [attributes for attributes in seen.all("svg") if attributes.get("role") == "img"]
    said = [attributes["aria-label"] for attributes in pictures]
    starts = {
        "R@k of NQ from k = 5 to 20": 1,
        "H@k of SQuAD from k = 5 to 20": 1,
        "Zero-shot, plain against First stage": 2,
        "Q-PEFT-A against Zero-shot, plain": 1,
        "R@10 by alpha, NQ": 1,
        "R@10 by alpha, SQuAD": 1,
        "Training loss, NQ": 1,
        "Dev MRR@10 by epoch, SQuAD": 1,
        "R@10 by k, NQ": 1,
    }
    for start, count in starts.items():
        assert sum(one.startswith(start) for one in said) == count, start
    assert sum("rank correlation" in one for one in said) == 4
    condition = parse_condition(loaded, "nq.bm25.qpeft-a")
    values = read_measured([condition], chain, store)[condition]
    label = next(one for one in said if one.startswith("R@k of NQ"))
    first, last = (100 * values.array(measure, "clean").mean() for measure in ("R@5", "R@20"))
    assert f"Q-PEFT-A {first:.1f} to {last:.1f}" in label
    fused = fuse(condition, chain, store, "R@10")
    label = next(one for one in said if one.startswith("R@10 by alpha, NQ"))
    assert f"dev chooses {fused.chosen / 20:.2f}: {100 * fused.curve[fused.chosen]:.2f}" in label
    label = next(one for one in said if one.startswith("R@10 by alpha, SQuAD"))
    assert label.count("no dev run") == 2 and "No dev run exists here" in html
    ids = [attributes["id"] for _, attributes in seen.elements if "id" in attributes]
    assert len(set(ids)) == len(ids)
    used = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', html))
    assert used and used <= set(ids)


def test_nothing_of_a_title_is_markup_and_nothing_is_fetched(html):
    seen = Seen(html)
    assert len(seen.all("script")) == 1 and not seen.all("img") and not seen.all("link")
    assert "alert(1)" in html and "<script src" not in html
    for tag, attributes in seen.elements:
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, value[:80])
    assert "url(http" not in html and "@import" not in html


def test_where_it_comes_from(place, html):
    loaded, _, chain, store = place
    text = html.replace("&#39;", "'").replace("&gt;", ">").replace("&#34;", '"')
    for name in ("nq.bm25.lora", "nq.bm25.qpeft-r.k-5"):
        condition = parse_condition(loaded, name)
        for step in (chain.rerank(condition), chain.adapter(condition)):
            assert store.record(step)["output"] in text
            assert " ".join(step.command(store.work)[:4]) in text
    # As it ran, whatever the present call asks for.
    step = chain.rerank(parse_condition(loaded, "nq.bm25.lora"))
    path = step.folder(store.work) / "step.json"
    before = path.read_text()
    record = json.loads(before)
    record["command"], record["threads"] = [*record["command"], "--device", "cpu"], "1"
    try:
        path.write_text(json.dumps(record))
        (ran,) = provenance.ran([step], store)
    finally:
        path.write_text(before)
    assert ran.command.startswith(f"mkdir -p {step.folder(store.work)} && OMP_NUM_THREADS=1 python -m ")
    assert ran.command.endswith(" --device cpu")
    from importlib.metadata import version

    assert version("pytrec_eval-terrier") in text and "<h3>Versions</h3>" in text and "Seed 42" in text
    from qpeft_rerank.likelihood.identity import file_digest

    assert file_digest(chain.data / "corpus.jsonl") in text


def test_versions_are_those_of_the_steps(place, monkeypatch):
    loaded, _, chain, store = place
    monkeypatch.setattr("eval.provenance.versions", lambda: {"torch": "newer"})
    measured = read_measured([parse_condition(loaded, "nq.bm25.zero-shot")], chain, store)
    for record, said in ((store.record, versions()["torch"]), (lambda step: {}, "Not in their records.")):
        monkeypatch.setattr(store, "record", record)
        html = report.page([], Material(measured, chain, store, loaded, "R@10"))
        assert "Versions of 6 of 6 steps" in html and f">{said}<" in html
        assert "Versions where this was written" in html and ">newer<" in html


@pytest.mark.slow
def test_asked_again_the_page_is_the_same(words, html, tmp_path):
    assert report.main([*words, "--output", str(tmp_path / "again.html")]) == 0
    assert (tmp_path / "again.html").read_text("utf-8") == html


def test_panels_of_two_first_stages_are_told_apart(place):
    loaded, _, chain, store = place
    conditions = [parse_condition(loaded, f"nq.bm25.qpeft-r.k-{value}") for value in (5, 10)]
    measured = read_measured(conditions, chain, store)
    stage = dataclasses.replace(conditions[0].first_stage, name="dense", title="Dense")
    both = measured | {dataclasses.replace(one, first_stage=stage): values for one, values in measured.items()}
    for some, titles in ((measured, ["NQ"]), (both, ["NQ, bm25", "NQ, dense"])):
        found = means(some, ["R@10"])
        shown = looks({"qpeft-r": "trained"})
        drawn = ablation.draw("k", "k", [5, 10], list(some), found[found.convention == "clean"], "R@10", shown)
        assert [panel.title for panel in drawn] == titles


@pytest.mark.filterwarnings("error")
def test_candidates_without_a_relevant_one_are_drawn():
    hits = [Hit("a", 2.0, 1), Hit("b", 1.0, 2)]
    scored = Scored({"t": hits}, {"t": {"a": -1.0, "b": -3.0}}, {"t": {"elsewhere": 1}}, ("t", "absent"))
    drawn = scatter.draw("one", "One", scored)
    assert "2 candidates of 1 topics, 0 relevant" in drawn.said and "nan" not in drawn.said


def test_single_conditions_and_another_measure(words, tmp_path):
    named = ["--condition", "nq.bm25.first-stage", "--condition", "nq.bm25.zero-shot", "--measure", "MRR@10"]
    assert report.main([*words, *named, "--output", str(tmp_path / "page.html")]) == 0
    html = (tmp_path / "page.html").read_text("utf-8")
    assert "MRR@10 by alpha, NQ" in html and "LoRA" not in html and "SQuAD" not in html


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--depth", "19"], "conditions is finished with these options"),
        (["--measure", "R@11"], "--measure: no measure 'R@11'; give R@1"),
        (["--table", "mian"], "no table 'mian'; give main"),
        (["--output", "{tmp}/there.html"], "there.html: exists; add --overwrite"),
        (["--output", "{tmp}/none/page.html"], "does not exist"),
        (["--data", "{tmp}"], "no such file; give a --data folder that has it"),
        (["--data", "{tmp}/none"], "no such folder"),
    ],
)
def test_refusals_are_one_line(words, tmp_path, capsys, more, said):
    (tmp_path / "there.html").write_text("mine")
    more = [word.replace("{tmp}", str(tmp_path)) for word in more]
    assert report.main([*words, "--output", str(tmp_path / "page.html"), *more]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("error: ") and err.count("\n") == 1
    assert not (tmp_path / "page.html").exists() and (tmp_path / "there.html").read_text() == "mine"


def test_without_matplotlib_it_says_what_to_install(words, tmp_path, monkeypatch, capsys):
    for module in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert report.main([*words, "--condition", "nq.bm25.zero-shot", "--output", str(tmp_path / "page.html")]) == 2
    err = capsys.readouterr().err
    assert "pip install matplotlib" in err and not (tmp_path / "page.html").exists()


def test_a_damaged_log_is_one_line(place, words, tmp_path, capsys):
    loaded, _, chain, store = place
    path = chain.adapter(parse_condition(loaded, "squad.bm25.lora")).place(store.work) / "training.json"
    text = path.read_text()
    path.write_text(text[:10])
    try:
        assert report.main([*words, "--condition", "squad.bm25.lora", "--output", str(tmp_path / "page.html")]) == 2
    finally:
        path.write_text(text)
    assert f"{path.parent}: not a training's log" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.slow
def test_a_browser_shows_it_and_calls_nobody(html, tmp_path, browse):
    (tmp_path / "page.html").write_text(html, "utf-8")
    dom, asked = browse(tmp_path / "page.html", 1200)
    assert asked == [] and len(Seen(dom).tables) == len(Seen(html).tables)
    assert len(Seen(dom).all("script")) == 1 and not Seen(dom).all("img")

    # On a narrow screen nothing is wider than it, but for the tables, which scroll in their own boxes.
    measure = """<script>
    var sizes = [].map.call(document.querySelectorAll("figure > svg"), function (one) {
      return Math.round(one.getBoundingClientRect().width); });
    document.title = JSON.stringify([innerWidth, document.documentElement.scrollWidth,
      Math.max.apply(null, sizes), Math.min.apply(null, sizes)]);
    </script></body>"""
    open_ = re.sub(r"<meta http-equiv[^>]*>", "", html).replace("</body>", measure)
    (tmp_path / "open.html").write_text(open_, "utf-8")
    for width in (390, 1200):
        dom, _ = browse(tmp_path / "open.html", width)
        inner, scrolled, widest, narrowest = map(int, re.search(r"<title>\[([\d,]+)\]", dom)[1].split(","))
        assert scrolled <= inner and widest <= inner and narrowest >= 120

    # The page's policy lets no further script run, and what would go out is seen.
    (tmp_path / "locked.html").write_text(html.replace("</body>", measure), "utf-8")
    assert "<title>[" not in browse(tmp_path / "locked.html", 1200)[0]
    (tmp_path / "calls.html").write_text('<img src="http://calls.invalid/i.png">', "utf-8")
    assert any("calls.invalid/i.png" in line for line in browse(tmp_path / "calls.html", 1200)[1])
