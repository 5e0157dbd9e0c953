"""What the reranking command writes and what it leaves alone."""

import gzip
import json
from pathlib import Path

import pytest

from qpeft_rerank import exactness
from qpeft_rerank.rerank import main
from qpeft_rerank.trec.runs import read_run
from tests.rerank.first_stage import RUN


def lines(path: Path) -> list[list[str]]:
    return [line.split() for line in path.read_text("utf-8").splitlines()]


def test_every_passage_is_in_the_new_run_once_ranked_by_its_score(command, tmp_path: Path) -> None:
    assert main(command()) == 0
    written = lines(tmp_path / "out.trec")
    assert sorted((row[0], row[2]) for row in written) == sorted(tuple(line.split()[:3:2]) for line in RUN.splitlines())
    for topic in ("10", "9"):
        rows = [row for row in written if row[0] == topic]
        assert [int(row[3]) for row in rows] == list(range(1, len(rows) + 1))
        assert [float(row[4]) for row in rows] == sorted((float(row[4]) for row in rows), reverse=True)
    assert {row[5] for row in written} == {"ql-plain-tiny-llama"}


def test_the_tail_below_the_depth_keeps_its_order(command, tmp_path: Path) -> None:
    assert main(command(depth=2)) == 0
    rows = [row[2] for row in lines(tmp_path / "out.trec") if row[0] == "10"]
    assert set(rows[:2]) == {"42", "30"}
    assert rows[2:] == ["5", "41"]


def test_alpha_zero_is_the_first_stage_and_needs_no_new_scores(command, tmp_path: Path) -> None:
    assert main(command()) == 0
    journal = (tmp_path / "out.trec.journal").read_bytes()
    assert main(command(alpha=0, overwrite=True)) == 0
    assert [row[2] for row in lines(tmp_path / "out.trec")] == [line.split()[2] for line in RUN.splitlines()]
    assert (tmp_path / "out.trec.journal").read_bytes() == journal


def test_a_mixture_in_the_default_place_needs_no_new_scores(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    written = []
    for alpha in (1, 0.5, 0):
        assert main(command(output=None, alpha=alpha)) == 0
        (journal,) = (tmp_path / "runs").glob("*.journal")
        written.append(journal.read_bytes())
    assert written[0] == written[1] == written[2]
    mixed = lines(tmp_path / "runs" / "first.topics.ql-plain-tiny-llama-alpha0.trec")
    assert [row[2] for row in mixed] == [line.split()[2] for line in RUN.splitlines()]
    # What another mixture is done with is not what a stopped one left.
    assert main(command(output=None, alpha=0.25, scores=tmp_path / "scores")) == 0
    assert main(command(output=None, alpha=0.75, scores=tmp_path / "scores")) == 2
    assert "scores: exists; add --overwrite" in capsys.readouterr().err


def test_scores_tell_what_was_scored(command, tmp_path: Path) -> None:
    assert main(command(scores=tmp_path / "scores.jsonl", max_passage_tokens=12)) == 0
    records = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text("utf-8").splitlines()]
    assert [(record["qid"], record["docid"]) for record in records] == [
        tuple(line.split()[:3:2]) for line in RUN.splitlines()
    ]
    for record in records:
        assert record["mean"] == pytest.approx(record["sum"] / record["tokens"])
        assert record["truncated"] == (record["docid"] != "41")
    assert len({record["tokens"] for record in records if record["qid"] == "10"}) == 1


def test_gz_in_and_out_and_odd_files_are_simply_read(command, tmp_path: Path) -> None:
    assert main(command()) == 0
    odd = tmp_path / "odd.trec.gz"
    odd.write_bytes(gzip.compress(b"\xef\xbb\xbf" + RUN.replace("\n", "\r\n\r\n").replace(" ", "\t").encode()))
    assert main(command(run=odd, output=tmp_path / "odd.out.gz")) == 0
    assert gzip.decompress((tmp_path / "odd.out.gz").read_bytes()) == (tmp_path / "out.trec").read_bytes()


def test_the_batch_size_changes_no_ranking(command, tmp_path: Path) -> None:
    assert main(command()) == 0
    assert main(command(output=tmp_path / "one.trec", batch_tokens=1)) == 0
    one, all_together = read_run(str(tmp_path / "one.trec")), read_run(str(tmp_path / "out.trec"))
    for topic, hits in one.items():
        scores = {hit.docid: hit.score for hit in all_together[topic]}
        assert all(scores[hit.docid] == pytest.approx(hit.score, abs=1e-3) for hit in hits)


@pytest.fixture
def repeating_run(tmp_path: Path) -> Path:
    """Three topics that find the same six passages."""
    docids = ["42", "30", "5", "41", "7", "40"]
    path = tmp_path / "repeating.trec"
    ranked = [(topic, rank, docid) for topic in ("10", "9", "100") for rank, docid in enumerate(docids, 1)]
    path.write_text("".join(f"{topic} Q0 {docid} {rank} {9 - rank} bm25\n" for topic, rank, docid in ranked), "utf-8")
    return path


def test_sharing_passages_changes_no_ranking(command, tmp_path: Path, repeating_run: Path) -> None:
    records = {}
    for mode in ("off", "auto", "on"):
        scores = tmp_path / f"{mode}.jsonl"
        assert main(command(run=repeating_run, output=tmp_path / mode, share_passages=mode, scores=scores)) == 0
        records[mode] = [json.loads(line) for line in scores.read_text("utf-8").splitlines()]
    off, *others = ([row[:4] for row in lines(tmp_path / mode)] for mode in records)
    assert others == [off, off]
    assert records["auto"] == records["on"]  # a small run, all of it worth sharing
    for one, other in zip(records["off"], records["on"], strict=True):
        assert one["sum"] == pytest.approx(other.pop("sum"), abs=1e-4 * one["tokens"])
    # Scores serve whichever way they were made: nothing is scored anew.
    journal = (tmp_path / "on.journal").read_text("utf-8").count('"sum"')
    assert main(command(run=repeating_run, output=tmp_path / "on", share_passages="off", overwrite=True)) == 0
    assert (tmp_path / "on.journal").read_text("utf-8").count('"sum"') == journal


@pytest.mark.parametrize(
    ("options", "said"),
    [({}, "sharing    saves "), ({"share_passages": "off"}, "sharing    off"), ({"run": None}, "saves nothing here")],
)
def test_a_dry_run_says_what_sharing_saves(
    command,
    repeating_run: Path,
    run_file: str,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, object],
    said: str,
) -> None:
    run = {"run": run_file} if "run" in options else {"run": repeating_run, **options}
    assert main(command(**run, dry_run=True)) == 0
    told = capsys.readouterr().err
    assert said in told
    # Gemma 2, Mamba and others read each pair whole, which only loading them tells.
    assert [words in told for words in ("if this model allows it", "if nothing is shared")] == [not options] * 2


def test_a_dry_run_counts_no_tokens_of_passages_that_are_not_there(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def tokens() -> str:
        assert main(command(dry_run=True, missing="skip")) == 0
        told = capsys.readouterr().err.splitlines()
        assert ("pairs      12 (6 not in the collection)" in told) == bool(absent)
        return next(line for line in told if line.startswith("tokens"))

    absent = ""
    whole = tokens()
    absent = "".join(f"9 Q0 nowhere{place} 9 0.{place} x\n" for place in range(6))
    (tmp_path / "first.trec").write_text(RUN + absent, "utf-8")
    assert tokens() == whole


def test_a_dry_run_plans_and_writes_nothing(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(tmp_path.iterdir())
    assert main(command(dry_run=True)) == 0
    assert sorted(tmp_path.iterdir()) == before
    said = capsys.readouterr().err
    for fact in ("topics     2", "pairs      6", "tokens ", "estimate ", "tiny-llama"):
        assert fact in said


def test_a_dry_run_tells_what_the_job_would_refuse(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out.trec").write_text("mine")
    options = {"scores": tmp_path / "none" / "scores", "explain": tmp_path / "page.html", "dry_run": True}
    assert main(command(**options)) == 0
    said = capsys.readouterr().err.splitlines()
    exists = "(exists; add --overwrite to replace it, or name another file)"
    assert f"output     {tmp_path / 'out.trec'} {exists}" in said
    assert f"scores     {options['scores']} (the folder {tmp_path / 'none'} does not exist; create it first)" in said
    assert f"page       {tmp_path / 'page.html'}" in said
    assert main(command(overwrite=True, dry_run=True)) == 0
    assert f"output     {tmp_path / 'out.trec'}" in capsys.readouterr().err.splitlines()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert main(command(output=None, dry_run=True)) == 0
    assert "output     runs/first.topics.ql-plain-tiny-llama.trec" in capsys.readouterr().err.splitlines()
    assert not list((tmp_path / "empty").iterdir())


def test_measures_before_and_after_and_passages_shown(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    qrels = tmp_path / "qrels"
    qrels.write_text("10 0 30 1\n9 0 7 2\n77 0 7 1\n", "utf-8")
    assert main([*command(qrels=qrels, show=1), "--measures", "RR", "nDCG@10"]) == 0
    told = capsys.readouterr()
    table = told.out.splitlines()
    assert "who wrote the first program" in told.out
    assert table[-3].split() == ["RR", "nDCG@10"]
    assert table[-2].split()[:3] == ["first", "stage", f"{(0.5 + 1) / 3:.4f}"]
    assert "1 judged topics are not in the run" in told.err and "without judgements" not in told.err


def test_a_passage_without_title_or_text_is_shown_as_what_it_has(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = [("7", "", " "), ("40", "A title", ""), ("41", "", "A\ttext\x1b[2J")]
    (tmp_path / "odd.jsonl").write_text(
        "".join(json.dumps({"id": i, "title": title, "text": text}) + "\n" for i, title, text in records), "utf-8"
    )
    (tmp_path / "first.trec").write_text("".join(f"9 Q0 {i} 1 1 x\n" for i, _, _ in records), "utf-8")
    assert main(command(corpus=tmp_path / "odd.jsonl", show=1)) == 0
    shown = capsys.readouterr().out.splitlines()
    before = next(place for place, line in enumerate(shown) if line.startswith("  before"))
    assert [line.split(maxsplit=1 + (place == 0))[-1] for place, line in enumerate(shown[before : before + 3])] == [
        "(empty)",
        "A title",
        "A text [2J",  # the sign by which a terminal would have been cleared is a space
    ]


def test_topics_that_a_table_does_not_count_are_told(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "qrels").write_text("10 0 30 1\n", "utf-8")
    assert main(command(qrels=tmp_path / "qrels")) == 0
    assert "1 topics without judgements do not count" in capsys.readouterr().err


def test_a_limit_takes_the_first_topics_and_judges_no_others(
    command, tmp_path: Path, tiny_index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = tmp_path / "topics.jsonl"
    records = [("1", "zzzz", "Ada"), ("2", "nobel prizes radium", "polonium"), ("3", "first compiler", "word bug")]
    topics.write_text(
        "".join(json.dumps({"id": i, "question": q, "answers": [a]}) + "\n" for i, q, a in records), "utf-8"
    )
    options = {"topics": topics, "limit": 2, "qrels": "answers", "measures": "RR"}
    assert main(command(index=tiny_index, run=None, corpus=None, **options)) == 0
    told = capsys.readouterr()
    assert f"searching {tiny_index} with 2 topics of {topics}" in told.err.splitlines()
    # Topic 1 finds nothing and counts 0, topic 2 is found, topic 3 is beyond the limit.
    assert told.out.splitlines()[-1].split()[-1] == "0.5000"
    assert {row[0] for row in lines(tmp_path / "out.trec")} == {"2"}


def test_a_limit_counts_no_other_topics_of_a_file(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "qrels").write_text("10 0 42 1\n10 0 30 1\n10 0 5 1\n10 0 41 1\n9 0 7 1\n", "utf-8")
    assert main(command(qrels=tmp_path / "qrels", limit=1, measures="RR")) == 0
    assert capsys.readouterr().out.splitlines()[-1].split()[-1] == "1.0000"


def test_a_stream_gets_the_run_alone(command, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "qrels").write_text("10 0 42 1\n", "utf-8")
    assert main(command(output="/dev/stdout", qrels=tmp_path / "qrels", show=1)) == 0
    told = capfd.readouterr()
    assert all(len(line.split()) == 6 for line in told.out.splitlines()) and "first stage" in told.err


@pytest.mark.parametrize(
    ("dtype", "own", "told"), [("mixed", False, True), ("mixed", True, False), ("float32", False, False)]
)
def test_a_precision_that_saves_nothing_here_is_told(
    command, dtype: str, own: bool, told: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exactness, "multiplies_bfloat16", lambda: own)
    assert main(command(dtype=dtype)) == 0
    assert ("this processor does not multiply bfloat16 itself" in capsys.readouterr().err) == told


def test_missing_skip_counts_and_keeps_the_passage(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "first.trec").write_text(RUN + "9 Q0 nowhere 1 9.0 x\n", "utf-8")
    assert main(command(missing="skip")) == 0
    assert "1 passages are not in" in capsys.readouterr().err
    assert [row[2] for row in lines(tmp_path / "out.trec") if row[0] == "9"][-1] == "nowhere"


def test_the_default_output_is_under_runs(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_index: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command(index=tiny_index, run=None, corpus=None, output=None)) == 0
    assert (tmp_path / "runs" / "tiny.topics.ql-plain-tiny-llama.trec").is_file()
    assert "runs/tiny.topics.ql-plain-tiny-llama.trec" in capsys.readouterr().err


def test_a_run_gives_the_default_output_its_name_whatever_has_the_texts(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_index: Path
) -> None:
    """Two runs over one index, and what the index itself finds, are three outputs."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "second.trec").write_text(RUN, "utf-8")
    for run in (tmp_path / "first.trec", tmp_path / "second.trec", None):
        assert main(command(index=tiny_index, run=run, corpus=None, output=None)) == 0
    written = {path.name.partition(".")[0] for path in (tmp_path / "runs").glob("*.trec")}
    assert written == {"first", "second", "tiny"}


@pytest.mark.slow
def test_passages_are_fetched_as_the_searched_index_spells_them(command, tmp_path: Path) -> None:
    pytest.importorskip("jnius_config", reason="Pyserini is not installed")
    from qpeft_rerank.collection.building import build_index

    (tmp_path / "passages").mkdir()
    record = json.dumps({"id": "x\r", "contents": "a universal machine"})  # of a table with CRLF
    (tmp_path / "passages" / "p.jsonl").write_text(record + "\n")
    index = build_index(tmp_path / "passages", tmp_path / "index")
    assert main(command(index=index, run=None, corpus=None)) == 0
    assert {row[2] for row in lines(tmp_path / "out.trec")} == {"x"}


def test_an_index_serves_ranking_and_texts(command, tmp_path: Path, tiny_index: Path) -> None:
    assert main(command(index=tiny_index, run=None, corpus=None, hits=3)) == 0
    from_index = tmp_path / "out.trec"
    from qpeft_rerank.retrieve import main as retrieve

    first = tmp_path / "bm25.trec"
    topics = command()[command().index("--topics") + 1]
    assert retrieve(["--index", str(tiny_index), "--topics", topics, "--hits", "3", "--output", str(first)]) == 0
    assert main(command(run=first, output=tmp_path / "two-steps.trec")) == 0
    assert (tmp_path / "two-steps.trec").read_bytes() == from_index.read_bytes()


def test_the_first_stage_is_as_deep_as_what_is_reranked(
    command, tmp_path: Path, tiny_index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qpeft_rerank.job._HITS", 1)
    for more, most in (({"depth": 3}, 3), ({"depth": 1}, 1), ({"depth": 1, "hits": 2}, 2)):
        output = tmp_path / f"{most}.trec"
        assert main(command(index=tiny_index, run=None, corpus=None, output=output, **more)) == 0
        assert max(map(len, read_run(str(output)).values())) == most
