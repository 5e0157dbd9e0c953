"""``--explain`` with ``--certify``: the page's numbers are float32's, as the ranks and scores are."""

import json
import re

import pytest

from qpeft_rerank import certify, exactness
from qpeft_rerank.rerank import main
from tests.explain.awkward import KINDS, PASSAGES, TOPICS, page_of
from tests.explain.test_page import scorer_of
from tests.seen import Seen


@pytest.fixture(autouse=True)
def certified_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """So few pairs would be scored in float32 at once, and all pairs on a processor without bfloat16."""
    monkeypatch.setattr(exactness, "FEW", 0)
    monkeypatch.setattr(exactness, "multiplies_bfloat16", lambda: True)


def shown_by(tmp_path) -> tuple[Seen, list[tuple[str, float]], str]:
    """The page's tables, its passages with their scores, and what it says of them."""
    html = page_of(tmp_path)
    scores = [float(score) for score in re.findall(r'<dt>score</dt><dd class="moved">(-[\d.]+)', html)]
    rows = [line.split() for line in (tmp_path / "out.trec").read_text("utf-8").splitlines()]
    docids = [row[2] for row in rows if row[0] == "t<1>"]
    said = re.search(r"A passage's score is their sum[^<]*", html)
    return Seen(html), list(zip(docids, scores, strict=True)), said[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["mixed", "bfloat16"])
def test_a_certified_page_adds_up_to_the_run_s_scores(command, tmp_path, model, adapters, kind, dtype) -> None:
    assert main(command(kind, "--dtype", dtype, "--certify", "5", "--scores", str(tmp_path / "scores.jsonl"))) == 0
    seen, ranked, said = shown_by(tmp_path)
    records = map(json.loads, (tmp_path / "scores.jsonl").read_text("utf-8").splitlines())
    sums = {record["docid"]: record["sum"] for record in records if record["qid"] == "t<1>"}
    scorer = scorer_of(model, adapters, kind)
    texts = {docid: (title, text) for docid, title, text in PASSAGES}
    assert len(seen.tables) == len(ranked) == len(PASSAGES)
    for (docid, score), table in zip(ranked, seen.tables, strict=True):
        logs = scorer.log_probs(scorer.encode([(TOPICS["t<1>"], *texts[docid])]))[0]
        assert [float(cells[1]) for cells in table[1:-1]] == pytest.approx(logs.tolist(), abs=1e-4)
        assert float(table[-1][1]) == pytest.approx(score, abs=1e-3) == pytest.approx(sums[docid], abs=1e-3)
    assert "both in float32; where --certify needed no second look, the score is that of " + dtype in said


def test_what_was_not_scored_again_is_told_from_its_sum(command, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certify, "FEW", 1)
    assert main(command("plain", "--dtype", "mixed", "--certify", "1")) == 0
    seen, ranked, said = shown_by(tmp_path)
    off = [abs(float(table[-1][1]) - score) for (_, score), table in zip(ranked, seen.tables, strict=True)]
    assert 1e-3 < max(off) < 0.5
    assert said.endswith("the score is that of mixed and a little off.")


def test_an_uncertified_page_says_nothing_of_it(command, tmp_path) -> None:
    assert main(command("plain", "--dtype", "mixed")) == 0
    assert shown_by(tmp_path)[2] == "A passage's score is their sum, unless --alpha mixes the first stage in."
