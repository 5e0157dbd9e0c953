"""The mining command: on a run with a passage file, on a Lucene index, killed and started again."""

import json
import os
import sys
from pathlib import Path

import pytest

from qpeft_rerank import mine
from qpeft_rerank.collection.jsonl import CorpusFile
from qpeft_rerank.training import minefile, mining
from qpeft_rerank.training.data import read_training_file
from qpeft_rerank.trec.runs import Hit
from tests.killing import kill_until_done

PASSAGES = {
    "d1": ("France", "The capital of France is Paris, on the Seine."),
    "d2": ("Paris", "Paris is a city of art."),
    "d3": ("Rome", "The capital of Italy is Rome."),
    "d4": ("Berlin", "The capital of Germany is Berlin."),
    "d5": ("Sea", "Water covers most of the earth."),
    "d6": ("Copy", "The capital of France is Paris, on the Seine."),
    "d7": ("", "   "),
}
TOPICS = [
    {"id": "t1", "question": "what is the capital of France", "answers": ["Paris"]},
    {"id": "t2", "question": "what is the capital of Italy", "answers": ["Rome"]},
    {"id": "t3", "question": "what covers the earth", "answers": ["lava"]},
    {"id": "t4", "question": "capital of Germany", "answers": ["Berlin"]},
]
RUN = {
    "t1": ["d3", "d1", "d6", "d7", "d2", "d4", "d5"],
    "t2": ["d1", "d3", "d4"],
    "t3": ["d5", "d1"],
    "t4": ["d4"],
}


@pytest.fixture
def files(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": d, "title": t, "text": x}) + "\n" for d, (t, x) in PASSAGES.items())
    )
    (tmp_path / "topics.jsonl").write_text("".join(json.dumps(topic) + "\n" for topic in TOPICS))
    lines = (f"{t} Q0 {d} {rank} {100 - rank} bm25\n" for t, ds in RUN.items() for rank, d in enumerate(ds, 1))
    (tmp_path / "run.trec").write_text("".join(lines))
    return tmp_path


def command(files, *more, run="run.trec", topics="topics.jsonl"):
    given = ["--run", str(files / run), "--corpus", str(files / "corpus.jsonl"), "--topics", str(files / topics)]
    return [*given, "--output", str(files / "out.jsonl"), *map(str, more)]


def written(files):
    return {record["qid"]: record for record in map(json.loads, (files / "out.jsonl").read_text().splitlines())}


def docids(record, kind):
    return [passage["docid"] for passage in record[kind]]


def test_positives_by_answers(files, capsys):
    assert mine.main(command(files, "--positives", 2)) == 0
    found = written(files)
    assert list(found) == ["t1", "t2", "t4"]
    assert found["t1"]["query"] == "what is the capital of France" and found["t1"]["answers"] == ["Paris"]
    assert docids(found["t1"], "positives") == ["d1", "d6"]
    # Neither passages with the answer nor an empty one.
    assert docids(found["t1"], "negatives") == ["d3", "d4", "d5"]
    assert found["t1"]["positives"][0] == {"docid": "d1", "title": "France", "text": PASSAGES["d1"][1]}
    assert docids(found["t2"], "positives") == ["d3"] and docids(found["t4"], "negatives") == []
    said = capsys.readouterr().err
    assert "3 of 4 topics gave triples" in said
    assert "1 topics have no positive among their candidates" in said
    assert "1 topics have a positive but no negative" in said
    assert [example.qid for example in read_training_file(str(files / "out.jsonl")).examples] == ["t1", "t2", "t4"]


def test_positives_by_qrels(files, capsys):
    (files / "qrels.txt").write_text("t1 0 d2 1\nt1 0 d3 0\nt2 0 d5 2\nt2 0 d3 1\nt3 0 d9 1\n")
    assert mine.main(command(files, "--qrels", files / "qrels.txt", "--positives", 3)) == 0
    found = written(files)
    assert list(found) == ["t1", "t2"]
    # d1 and d6 hold the answer though they are not judged: perhaps relevant, so neither.
    assert docids(found["t1"], "positives") == ["d2"] and docids(found["t1"], "negatives") == ["d3", "d4", "d5"]
    # A judged passage that was not retrieved comes after those that were.
    assert docids(found["t2"], "positives") == ["d3", "d5"] and docids(found["t2"], "negatives") == ["d1", "d4"]
    said = capsys.readouterr().err
    assert "2 passages hold an answer though qrels do not list them" in said
    assert "1 passages that qrels call relevant are not in the collection" in said  # t3's d9


def test_a_copy_of_a_judged_passage_is_no_negative(files):
    # d6 has the text of d1, which is judged but was not retrieved.
    (files / "run2.trec").write_text("t3 Q0 d6 1 2 x\nt3 Q0 d3 2 1 x\n")
    (files / "qrels.txt").write_text("t3 0 d1 1\n")
    assert mine.main(command(files, "--qrels", files / "qrels.txt", run="run2.trec")) == 0
    (record,) = written(files).values()
    assert docids(record, "positives") == ["d1"] and docids(record, "negatives") == ["d3"]


def test_the_corpus_is_read_once(files, monkeypatch):
    many = 3 * mining.BATCH
    (files / "corpus.jsonl").write_text("".join(f'{{"id": "d{i}", "text": "text {i}"}}\n' for i in range(2 * many)))
    (files / "topics.jsonl").write_text("".join(f'{{"id": "{i}", "question": "q {i}"}}\n' for i in range(many)))
    (files / "run.trec").write_text("".join(f"{i} Q0 d{i} 1 1 x\n" for i in range(many)))
    (files / "qrels.txt").write_text("".join(f"{i} 0 d{many + i} 1\n" for i in range(many)))
    readings, records = [], CorpusFile._records
    monkeypatch.setattr(CorpusFile, "_records", lambda self: readings.append(1) or records(self))
    assert mine.main(command(files, "--qrels", files / "qrels.txt")) == 0
    assert len(written(files)) == many and len(readings) == 1


class Searcher:
    """A first stage that finds what the run lists, and is interrupted after so many topics."""

    def __init__(self, left):
        self.left = left
        self.asked = []

    def search(self, topics, hits):
        for topic in topics:
            if len(self.asked) == self.left:
                raise KeyboardInterrupt
            self.asked.append(topic)
            yield topic, [Hit(docid, -rank, rank) for rank, docid in enumerate(RUN[topic][:hits], 1)]


@pytest.mark.parametrize("more", [[], ["--limit", 3]])
def test_a_search_that_was_stopped_goes_on_after_the_last_pass_over_the_corpus(files, capsys, monkeypatch, more):
    assert mine.main(command(files, *more)) == 0
    whole = (files / "out.jsonl").read_bytes()
    (files / "out.jsonl").unlink()
    words = ["--index", "any", *command(files, *more)[2:]]
    monkeypatch.setattr(mining, "PASS", 2)
    for left, status in ((3, 130), (2, 0)):
        searcher = Searcher(left)
        monkeypatch.setattr("qpeft_rerank.collection.lucene.open_index", lambda name, given=searcher: given)
        assert mine.main(words) == status
    assert "going on after 2 topics" in capsys.readouterr().err and len(searcher.asked) == 2
    assert (files / "out.jsonl").read_bytes() == whole


def test_hits_negatives_limit(files):
    assert mine.main(command(files, "--hits", 2, "--negatives", 1, "--limit", 1, "--seed", 3)) == 0
    (record,) = written(files).values()
    assert len(record["negatives"]) <= 1
    first = (files / "out.jsonl").read_bytes()
    assert mine.main(command(files, "--hits", 2, "--negatives", 1, "--limit", 1, "--seed", 3, "--overwrite")) == 0
    assert (files / "out.jsonl").read_bytes() == first


def interrupt(patch, after):
    """Interrupt further minings after so many topics."""
    extend = minefile.MineFile.extend

    def stopping(self, outcomes):
        for number, mined in enumerate(extend(self, outcomes)):
            if number == after:
                raise KeyboardInterrupt
            yield mined

    patch.setattr(minefile.MineFile, "extend", stopping)


def stopped(files, after):
    """The status of the command when it is interrupted after so many topics."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after)
        return mine.main(command(files))


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_goes_on_after_a_stop(files, after):
    assert mine.main(command(files)) == 0
    whole = (files / "out.jsonl").read_bytes()
    (files / "out.jsonl").unlink()
    assert stopped(files, after) == 130
    assert not (files / "out.jsonl").exists()
    work = files / ".out.jsonl.work"
    work.write_bytes(work.read_bytes()[:-3] if after % 2 else work.read_bytes())
    assert mine.main(command(files)) == 0
    assert (files / "out.jsonl").read_bytes() == whole
    assert not work.exists()


def test_other_settings_do_not_go_on(files, capsys):
    with minefile.MineFile(files / "out.jsonl", {"hits": 5}) as file:
        list(file.extend([mining.Mined("t1", None, "no positive")]))
    assert mine.main(command(files)) == 2
    assert "unfinished mining with other settings" in capsys.readouterr().err
    assert mine.main(command(files, "--overwrite")) == 0
    assert len(written(files)) == 3


def test_topics_in_another_order_do_not_go_on(files, capsys):
    assert stopped(files, after=2) == 130
    lines = (files / "topics.jsonl").read_text().splitlines(keepends=True)
    (files / "topics.jsonl").write_text("".join(reversed(lines)))
    assert "unfinished mining with other settings" in bad(files, capsys)


@pytest.mark.parametrize("flag", ["--run", "--qrels"])
def test_a_pipe_goes_on_with_what_it_held(files, capsys, flag):
    (files / "qrels.txt").write_text("t1 0 d2 1\nt1 0 d3 0\nt2 0 d3 1\nt4 0 d4 1\n")
    words = command(files, "--qrels", files / "qrels.txt")
    source = Path(words[words.index(flag) + 1])

    def piped(text):
        """The command's status with the text in the pipe that a shell makes of <(...)."""
        read, write = os.pipe()
        with os.fdopen(write, "w") as pipe:
            pipe.write(text)
        words[words.index(flag) + 1] = f"/dev/fd/{read}"
        try:
            return mine.main(words)
        finally:
            os.close(read)

    text = source.read_text()
    with pytest.MonkeyPatch.context() as patch:
        interrupt(patch, after=2)
        assert piped(text) == 130
    capsys.readouterr()
    assert piped(text.replace("t2 0 d3 1", "t2 0 d1 1").replace("t2 Q0 d1 1", "t2 Q0 d5 1")) == 2
    assert "unfinished mining with other settings" in capsys.readouterr().err
    assert piped(text) == 0
    said = capsys.readouterr().err
    assert "going on after 3 topics" in said and docids(written(files)["t1"], "positives") == ["d2"]


def test_a_split_has_its_place_in_the_name(files):
    for given, expected in (
        ("dpr-nq", "dpr-nq-dev"),
        ("beir-v1.0.0-nfcorpus", "beir-v1.0.0-nfcorpus-dev"),
        ("ir_datasets:natural-questions", "ir_datasets:natural-questions/dev"),
        ("a/topics.jsonl", "a/topics.dev.jsonl"),
        ("topics.nq.jsonl.gz", "topics.nq.dev.jsonl.gz"),
    ):
        assert mine._of_split(given, "dev") == expected
        assert mine._of_split(given, None) == given
    (files / "topics.jsonl").rename(files / "topics.dev.jsonl")
    assert mine.main(command(files, "--split", "dev")) == 0
    assert set(written(files)) == {"t1", "t2", "t4"}


def test_a_judged_passage_without_text_is_no_positive(files, capsys):
    (files / "qrels.txt").write_text("t1 0 d7 2\nt1 0 d1 1\nt2 0 d7 1\n")
    assert mine.main(command(files, "--qrels", files / "qrels.txt", "--positives", 3)) == 0
    found = written(files)
    assert docids(found["t1"], "positives") == ["d1"] and "t2" not in found


def test_absent_judged_passages_are_told_where_nothing_else_is_left(files, capsys):
    (files / "qrels.txt").write_text("t1 0 x8 1\nt2 0 x9 1\n")
    assert "(2 passages that qrels call relevant are not in" in bad(files, capsys, "--qrels", files / "qrels.txt")


def bad(files, capsys, *more, **names):
    status = mine.main(command(files, *more, **names))
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and said.startswith("error: ")
    return said


def test_bad_input_is_one_line(files, capsys):
    (files / "other.jsonl").write_text('{"id": "x", "question": "q", "answers": ["a"]}\n')
    assert "none of the run's 4 topics" in bad(files, capsys, topics="other.jsonl")
    (files / "bare.jsonl").write_text('{"id": "t1", "question": "q"}\n')
    assert "topic t1 has no answers" in bad(files, capsys, topics="bare.jsonl")
    (files / "never.jsonl").write_text('{"id": "t1", "question": "q", "answers": ["zebra"]}\n')
    assert "no topic has a positive" in bad(files, capsys, topics="never.jsonl")
    (files / "run2.trec").write_text("t1 Q0 d1 1 2 x\nt1 Q0 d99 2 1 x\n")
    assert "docid d99 (topic t1) is not in" in bad(files, capsys, run="run2.trec")
    (files / "qrels.txt").write_text("t9 0 d1 1\n")
    assert "judges none of the 4 topics" in bad(files, capsys, "--qrels", files / "qrels.txt")
    assert "no such topics file" in bad(files, capsys, topics="absent.jsonl")
    (files / "out.jsonl").write_text("x")
    assert "exists; add --overwrite" in bad(files, capsys)
    assert (files / "out.jsonl").read_text() == "x"


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
    def no_index(name):
        raise AssertionError("an index was opened")

    monkeypatch.setattr("qpeft_rerank.collection.lucene.open_index", no_index)
    words = ["--index", "any", "--topics", str(files / "topics.jsonl"), "--output", str(files / "o"), "--qrels"]
    assert mine.main([*words, "absent.qrels"]) == 2
    assert "absent.qrels: no such qrels file" in capsys.readouterr().err


@pytest.mark.slow
def test_lucene_index(files):
    from qpeft_rerank.collection.building import build_index

    source = files / "source"
    source.mkdir()
    (source / "passages.jsonl").write_text(
        "".join(json.dumps({"id": d, "contents": f'"{t}"\n{x}'}) + "\n" for d, (t, x) in PASSAGES.items() if x.strip())
    )
    index = build_index(source, files / "index")
    given = ["--index", str(index), "--topics", str(files / "topics.jsonl"), "--output", str(files / "out.jsonl")]
    assert mine.main(given) == 0
    found = written(files)
    assert set(found) == {"t1", "t2", "t4"}
    assert docids(found["t1"], "positives")[0] in ("d1", "d6")
    assert found["t2"]["positives"][0]["title"] == "Rome"
    assert set(docids(found["t2"], "negatives")) <= {"d1", "d4", "d6"}


@pytest.mark.slow
def test_killed_at_random_moments(files):
    topics = [{"id": f"t{n}", "question": f"question {n}", "answers": ["Paris"]} for n in range(3000)]
    (files / "topics.jsonl").write_text("".join(json.dumps(topic) + "\n" for topic in topics))
    (files / "run.trec").write_text(
        "".join(f"t{n} Q0 {d} {r} {9 - r} x\n" for n in range(3000) for r, d in enumerate(["d3", "d1", "d4"], 1))
    )
    assert mine.main(command(files)) == 0
    whole = (files / "out.jsonl").read_bytes()
    (files / "out.jsonl").unlink()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    run = [sys.executable, "-m", "qpeft_rerank.mine", *command(files)]
    kill_until_done(run, environment, files / ".out.jsonl.work", files / "out.jsonl", by=120_000)
    assert (files / "out.jsonl").read_bytes() == whole
