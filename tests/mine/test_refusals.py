"""What the mining command refuses, in one line."""

from pathlib import Path

import pytest

from qpeft_rerank import mine
from qpeft_rerank.training import minefile, mining
from tests.mine.words import bad, command, written


def test_absent_judged_passages_are_told_where_nothing_else_is_left(files, capsys):
    (files / "qrels.txt").write_text("t1 0 x8 1\nt2 0 x9 1\n")
    assert "(2 passages that qrels call relevant are not in" in bad(files, capsys, "--qrels", files / "qrels.txt")


def test_bad_input_is_one_line(files, capsys):
    (files / "other.jsonl").write_text('{"id": "x", "question": "q", "answers": ["a"]}\n')
    assert "none of the run's 4 topics" in bad(files, capsys, topics="other.jsonl")
    (files / "bare.jsonl").write_text('{"id": "t1", "question": "q"}\n')
    assert "topic t1 has no answers" in bad(files, capsys, topics="bare.jsonl")
    (files / "never.jsonl").write_text('{"id": "t1", "question": "q", "answers": ["zebra"]}\n')
    assert "no topic has a positive" in bad(files, capsys, topics="never.jsonl")
    (files / "run2.trec").write_text("t1 Q0 d1 1 2 x\nt1 Q0 d99 2 1 x\n")
    assert f"{files}/run2.trec:2: docid d99 (topic t1) is not in" in bad(files, capsys, run="run2.trec")
    (files / "qrels.txt").write_text("t9 0 d1 1\n")
    assert "judges none of the 4 topics" in bad(files, capsys, "--qrels", files / "qrels.txt")
    assert "no such topics file" in bad(files, capsys, topics="absent.jsonl")
    (files / "out.jsonl").write_text("x")
    assert "exists; add --overwrite" in bad(files, capsys)
    assert (files / "out.jsonl").read_text() == "x"


def test_a_run_of_other_passages_is_refused_before_a_topic_is_mined(files, capsys):
    with (files / "run.trec").open("a") as run:
        run.write("t4 Q0 d99 2 1 x\n")
    assert bad(files, capsys).startswith(f"error: {files}/run.trec:14: docid d99 (topic t4) is not in")
    assert not list(files.glob(".*.work"))


def test_what_another_mining_wrote_meanwhile_is_not_replaced(files, capsys, monkeypatch):
    make = mine._miner

    def miner(args):
        (files / "out.jsonl").write_text("of another mining")
        return make(args)

    monkeypatch.setattr(mine, "_miner", miner)
    assert "out.jsonl: exists; add --overwrite" in bad(files, capsys)
    assert (files / "out.jsonl").read_text() == "of another mining" and not list(files.glob(".*.work"))
    assert mine.main(command(files, "--overwrite")) == 0 and len(written(files)) == 3


@pytest.mark.parametrize("flag", ["run", "corpus", "topics", "qrels"])
def test_an_input_is_not_overwritten(files, capsys, flag):
    (files / "qrels.txt").write_text("t1 0 d1 1\n")
    words = command(files, "--qrels", files / "qrels.txt", "--overwrite")
    source = Path(words[words.index(f"--{flag}") + 1])
    before = source.read_bytes()
    words[words.index("--output") + 1] = str(source)
    assert mine.main(words) == 2
    assert f"--output {source}: is an input of this job (--{flag}); name another file" in capsys.readouterr().err
    assert source.read_bytes() == before and not list(files.glob(".*.work"))


@pytest.mark.parametrize("line", ["no record", "{}", "[1]"])
def test_a_damaged_work_file_can_be_overwritten(files, capsys, line):
    with minefile.MineFile(files / "out.jsonl", {"hits": 5}) as file:
        list(file.extend([mining.Mined("t1", None, "no positive")]))
    work = files / ".out.jsonl.work"
    work.write_text(f"{work.read_text()}{line}\n")
    assert ".out.jsonl.work:3: damaged; use --overwrite" in bad(files, capsys)
    assert mine.main(command(files, "--overwrite")) == 0
    assert len(written(files)) == 3 and not work.exists()


def test_run_needs_a_corpus_and_output_a_file(files, capsys):
    assert mine.main(["--run", "r", "--topics", "t", "--output", str(files / "o")]) == 2
    assert "add --corpus" in capsys.readouterr().err
    assert mine.main(["--run", "r", "--corpus", "c", "--topics", "t", "--output", "-"]) == 2
    assert "cannot go to stdout" in capsys.readouterr().err


def test_stdin_is_read_once(files, capsys):
    assert mine.main(["--run", "-", "--corpus", "c", "--topics", "-", "--output", str(files / "o")]) == 2
    assert capsys.readouterr().err == "error: --run, --topics, --qrels: only one of them can come from stdin (-)\n"


def test_judgements_are_looked_at_before_an_index(files, capsys, monkeypatch):
    def no_index(*names):
        raise AssertionError("an index was opened")

    monkeypatch.setattr("qpeft_rerank.collection.lucene.open_index", no_index)
    words = ["--index", "any", "--topics", str(files / "topics.jsonl"), "--output", str(files / "o"), "--qrels"]
    assert mine.main([*words, "absent.qrels"]) == 2
    assert "absent.qrels: no such qrels file" in capsys.readouterr().err
