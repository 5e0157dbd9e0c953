"""What the reranking command refuses, in one line."""

from pathlib import Path

import pytest

from qpeft_rerank.job import Job
from qpeft_rerank.rerank import main
from tests.rerank.first_stage import RUN


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"run": "absent.trec"}, "absent.trec"),
        ({"corpus": "absent.jsonl"}, "absent.jsonl"),
        ({"topics": "absent.tsv"}, "absent.tsv"),
        ({"topics": None}, "add --topics"),
        ({"corpus": None}, "add --corpus FILE or --index NAME"),
        ({"run": None}, "add --run FILE"),
        ({"run": None, "topics": None}, "add --run FILE"),
        ({"run": None, "topics": "absent.tsv"}, "add --run FILE"),
        ({"model": "no/such-model"}, "no/such-model"),
        ({"model": "embeded"}, "embedded"),
        ({"prompt": "plane"}, "plain, qpeft, upr"),
        ({"alpha": "1.5"}, "--alpha 1.5"),
        ({"device": "gpu"}, "--device gpu"),
        ({"max_passage_tokens": "0"}, "--max-passage-tokens 0"),
        ({"qrels": "absent.qrels.txt"}, "absent.qrels.txt"),
        ({"qrels": "answers"}, "none of the topics has answers"),
        ({"measures": "nDGC@10"}, "nDGC@10"),
        ({"measures": "nDCG@10"}, "--measures: needs judgements; add --qrels"),
        ({"output": "/no/such/folder/out.trec"}, "/no/such/folder"),
        ({"output": "new/"}, "--output new/: is a folder; name a file in it"),
        ({"run": "-", "topics": "-"}, "only one of them"),
        ({"run": "-", "qrels": "-"}, "only one of them"),
        ({"output": "-", "scores": "-"}, "--scores -: is another output"),
        ({"corpus": "/dev/null"}, "--corpus /dev/null: no regular file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_what_is_wrong_is_said_in_one_line(
    command, changed: dict, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(**changed)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1
    assert says in said[0]


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ("10 Q0 42 1 9.5\n", "first.trec:1: expected 6 columns"),
        (RUN + "10 Q0 42 9 0.5 x\n", "first.trec:7: docid 42 occurs twice"),
        (RUN + "10 Q0 12 9 nan x\n", "first.trec:7: score 'nan'"),
        (RUN + "10 Q0 12 9 high x\n", "first.trec:7: score 'high'"),
        (RUN + "10 Q0 12 9 1e39 x\n", "first.trec:7: score '1e39' is beyond float32"),
        (RUN + "555 Q0 12 9 1.0 x\n", "first.trec:7: topic 555"),
        (RUN + "10 Q0 D404 9 0.5 x\n", "first.trec:7: docid D404 (topic 10)"),
        ("", "no run lines"),
        ("\n \n", "no run lines"),
    ],
)
def test_a_bad_run_is_refused_by_file_and_line(
    command, tmp_path: Path, run: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "first.trec").write_text(run, "utf-8")
    assert main(command()) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "out.trec").exists()


def test_outputs_do_not_overwrite_each_other(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for scores in ("out.trec", "./out.trec.journal"):
        assert main(command(scores=f"{tmp_path}/{scores}", overwrite=True)) == 2
        assert "is another output of this job too" in capsys.readouterr().err
    (tmp_path / "out.trec.journal").write_text("notes without a line's end")
    assert main(command()) == 2
    assert "out.trec.journal:1: not a journal" in capsys.readouterr().err
    assert (tmp_path / "out.trec.journal").read_text() == "notes without a line's end"


def test_what_another_job_wrote_meanwhile_is_not_replaced(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    own = Job._inputs

    def inputs(job: Job):
        (tmp_path / "out.trec").write_text("of another job", "utf-8")
        return own(job)

    monkeypatch.setattr(Job, "_inputs", inputs)
    assert main(command()) == 2
    assert "out.trec: exists" in capsys.readouterr().err
    assert (tmp_path / "out.trec").read_text("utf-8") == "of another job"


def test_an_empty_value_is_refused(command, capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--output", "--scores", "--qrels"):
        with pytest.raises(SystemExit) as stopped:
            main([*command(), flag, ""])
        assert stopped.value.code == 2 and f"argument {flag}: is empty" in capsys.readouterr().err


@pytest.mark.parametrize("device", ["gpu", "xpu", "cuda:99"])
def test_a_device_is_refused_before_anything_is_read(command, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(device=device, run="absent.trec")) == 2
    assert capsys.readouterr().err.startswith(f"error: --device {device}: ")


def test_passages_of_less_than_no_topic_are_not_shown(command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(command(show=-1))
    assert stopped.value.code == 2
    assert "argument --show: '-1' is not a whole number from 0" in capsys.readouterr().err
    assert main(command(show=0)) == 0


def test_judgements_of_other_topics_are_refused_before_scoring(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "qrels").write_text("77 0 30 1\n")
    assert main(command(qrels=tmp_path / "qrels")) == 2
    said = capsys.readouterr().err
    assert "none of the run's topics is judged there (run: 10, qrels: 77)" in said and "scoring" not in said
    assert "--limit" not in said
    (tmp_path / "qrels").write_text("9 0 7 1\n")
    assert main(command(qrels=tmp_path / "qrels", limit=1)) == 2
    assert "give the qrels of these topics, or a larger --limit" in capsys.readouterr().err


def test_half_a_surrogate_pair_is_named_by_line(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [f'{{"id": "{docid}", "contents": "x"}}\n' for docid in (42, 30, 5, 7, 40)]
    (tmp_path / "corpus.jsonl").write_text("".join(lines) + '{"id": "41", "contents": "Marie \\ud800"}\n')
    assert main(command(corpus=tmp_path / "corpus.jsonl")) == 2
    assert "corpus.jsonl:6: passage '41': field 'contents' has half a surrogate pair" in capsys.readouterr().err


def test_a_way_of_scoring_is_named_by_one_word(
    command, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = tmp_path / "my\u00a0own.yaml"
    prompt.write_text('passage: "{passage}"\nquestion: "\\nQuestion:"\ntarget: " {query}"\n')
    monkeypatch.chdir(model)
    assert main(command(model=".", prompt=prompt)) == 0
    assert {line.split()[5] for line in (tmp_path / "out.trec").read_text().splitlines()} == {"ql-my-own-tiny-llama"}


def test_bad_utf8_is_named_by_line(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "first.trec").write_bytes(RUN.encode() + b"10 Q0 \xff\xfe 9 0.5 x\n")
    assert main(command()) == 2
    assert "first.trec:7:" in capsys.readouterr().err


def test_a_query_longer_than_the_context_is_refused(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    topics = tmp_path / "topics.tsv"
    topics.write_text("10\t" + "long query " * 200 + "\n9\tshort\n", "utf-8")
    assert main(command(topics=topics)) == 2
    said = capsys.readouterr().err
    assert "error: topic 10: the query 'long" in said and "the model reads 256" in said


def test_an_empty_query_is_refused(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    topics = tmp_path / "topics.tsv"
    topics.write_text("10\t \n9\tshort\n", "utf-8")
    assert main(command(topics=topics)) == 2
    assert "topics.tsv:1:" in capsys.readouterr().err


def test_an_existing_output_needs_overwrite(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out.trec").write_text("mine", "utf-8")
    assert main(command()) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert (tmp_path / "out.trec").read_text("utf-8") == "mine"
    assert main(command(overwrite=True)) == 0


def test_a_second_process_on_the_same_output_is_refused(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from qpeft_rerank.likelihood.journal import Journal

    with Journal(tmp_path / "out.trec.journal"):
        assert main(command()) == 2
    assert "another process" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"model": "no/such-model"}, "no/such-model"), ({"dtype": "int8"}, "pip install qpeft_rerank[int8]")],
    ids=["model", "dtype"],
)
def test_what_scores_is_looked_at_before_the_search(
    command, changed: dict, says: str, tiny_index: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("qpeft_rerank.likelihood.int8.find_spec", lambda name: None)
    assert main(command(index=tiny_index, run=None, corpus=None, **changed)) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ") and says in said


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"qrels": "absent.qrels.txt"}, "absent.qrels.txt: no such qrels file"),
        ({"qrels": "answers"}, "none of the topics has answers"),
        ({"corpus": "absent.jsonl"}, "--corpus absent.jsonl: no such file"),
    ],
)
def test_other_names_are_looked_at_before_the_search(
    command, changed: dict, says: str, tiny_index: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    def no_search(*names: str | None) -> None:
        raise AssertionError("an index was opened")

    monkeypatch.setattr("qpeft_rerank.collection.lucene.open_index", no_search)
    assert main(command(**{"index": tiny_index, "run": None, "corpus": None, **changed})) == 2
    assert says in capsys.readouterr().err.splitlines()[-1]
