"""What the reranking command refuses, in one line."""

from pathlib import Path

import pytest

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
        ({"model": "no/such-model"}, "no/such-model"),
        ({"model": "embeded"}, "embedded"),
        ({"prompt": "plane"}, "plain, qpeft, upr"),
        ({"alpha": "1.5"}, "--alpha 1.5"),
        ({"device": "gpu"}, "--device gpu"),
        ({"max_passage_tokens": "0"}, "--max-passage-tokens 0"),
        ({"qrels": "absent.qrels.txt"}, "absent.qrels.txt"),
        ({"qrels": "answers"}, "none of the topics has answers"),
        ({"measures": "nDGC@10"}, "nDGC@10"),
        ({"output": "/no/such/folder/out.trec"}, "/no/such/folder"),
        ({"run": "-", "topics": "-"}, "only one of them"),
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
    assert "the model reads 256" in capsys.readouterr().err


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
