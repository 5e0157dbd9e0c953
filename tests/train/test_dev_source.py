"""Dev questions of a run: what is wrong with them is told before training files are read, and no more is judged than counts."""

import json
import os

import pytest

from qpeft_rerank import train
from qpeft_rerank.collection.jsonl import CorpusFile
from qpeft_rerank.training import data, dev_source
from tests.train.words import command


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--dev-qrels", "absent.qrels"], "absent.qrels: no such qrels file"),
        (["--dev-topics", "absent.tsv"], "absent.tsv: no such topics file"),
        (["--dev-run", "absent.trec"], "absent.trec: no such file"),
        (["--dev-index", "./absent"], "./absent: no such folder"),
        (["--train", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--device", "gpu"], "--device gpu: give auto"),
        (["--model", "/absent/model"], "/absent/model"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_what_is_wrong_is_told_before_anything_slow(files, model_folder, more, said, monkeypatch, capsys):
    monkeypatch.chdir(files)
    for room in (data, dev_source):
        monkeypatch.setattr(room, "read_training_file", lambda *given: pytest.fail("was read"))
    words = command(files, model_folder, *more, dev="--dev-run")
    if more[0] == "--train":
        words += ["--train", str(files / "train.jsonl")]
    if more[0] == "--dev-index":
        place = words.index("--dev-corpus")
        del words[place : place + 2]
    assert train.main(words) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last
    assert not (files / "out.training").exists()


def test_a_topic_without_answers_is_told_before_passages_are_read(files, model_folder, monkeypatch, capsys):
    (files / "topics.jsonl").write_text('{"id": "sun", "question": "what is a sun"}\n')
    monkeypatch.setattr(CorpusFile, "prepare", lambda *given: pytest.fail("was read"))
    assert train.main(command(files, model_folder, dev="--dev-run")) == 2
    assert "error: dev topic sun has no answers; add them" in capsys.readouterr().err.splitlines()[-1]


def test_answers_may_be_regular_expressions(files, model_folder, monkeypatch, capsys):
    topics = [json.dumps({"id": name, "question": "what", "answers": [f"{name[:2]}."]}) for name in ("sun", "moon")]
    (files / "topics.jsonl").write_text("\n".join(topics))
    with (files / "run.trec").open("a") as run:
        run.write("sun Q0 lost 99 -99 x\n")  # below the depth
    looked_for = []
    prepare = CorpusFile.prepare

    def prepared(self, docids):
        looked_for.append(list(docids))
        prepare(self, docids)

    monkeypatch.setattr(CorpusFile, "prepare", prepared)
    more = ["--dev-qrels", "answers-regex", "--dev-depth", 4, "--dev-queries", 2, "--epochs", 1]
    assert train.main(command(files, model_folder, *more, dev="--dev-run")) == 0
    assert "of 2 questions: first stage 0.7500" in capsys.readouterr().err
    assert set().union(*looked_for) == {"sun", "moon", "cat", "bread"}


@pytest.mark.parametrize("flag", ["--dev", "--dev-run"])
def test_stdin_is_read_once(files, model_folder, flag, capsys):
    words = command(files, model_folder, "--train", "-", dev=flag)
    words[words.index(flag) + 1] = "-"
    assert train.main(words) == 2
    assert "only one of them can come from stdin (-)" in capsys.readouterr().err


def test_several_processes_read_no_stream(files):
    args = train._parser().parse_args(["--adapter", "qpeft-a", "--train", "-", "--output", "out"])
    os.mkfifo(files / "pipe")
    train._check_streams(args, False)
    for args.train in (["-"], [str(files / "pipe")]):
        with pytest.raises(
            train.InputError, match=r"^--train .*: is a stream, which several processes cannot all read"
        ):
            train._check_streams(args, True)
