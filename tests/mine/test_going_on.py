"""A mining that was stopped, interrupted or killed goes on where it was."""

import json
import os
import sys
from pathlib import Path

import pytest

from qpeft_rerank import mine
from qpeft_rerank.training import minefile, mining
from qpeft_rerank.trec.runs import Hit
from tests.killing import kill_until_done
from tests.mine.words import RUN, bad, command, docids, written


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
        monkeypatch.setattr("qpeft_rerank.collection.lucene.open_index", lambda name, language, given=searcher: given)
        assert mine.main(words) == status
    assert "going on after 2 topics" in capsys.readouterr().err and len(searcher.asked) == 2
    assert (files / "out.jsonl").read_bytes() == whole


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


def test_a_search_in_another_language_does_not_go_on(files, capsys, monkeypatch):
    monkeypatch.setattr("qpeft_rerank.collection.lucene.open_index", lambda name, language: Searcher(1))
    words = ["--index", "any", *command(files)[2:], "--language", "de"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mining, "PASS", 1)
        assert mine.main(words) == 130
    assert mine.main(words[:-2]) == 2
    assert "unfinished mining with other settings" in capsys.readouterr().err


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
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    run = [sys.executable, "-m", "qpeft_rerank.mine", *command(files)]
    kill_until_done(run, environment, files / ".out.jsonl.work", files / "out.jsonl", by=120_000)
    assert (files / "out.jsonl").read_bytes() == whole
