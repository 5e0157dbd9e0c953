"""Rerankers that read passages together rank as each alone."""

import contextlib
import importlib
import io
import json

import pytest

from eval import reproduce, runner
from eval.commands import Commands
from qpeft_rerank.trec.runs import read_run
from tests.eval import made


@pytest.fixture
def in_process(monkeypatch):
    """Run the steps' commands here: a process each would import torch nine times. What each scored is noted."""
    called = []

    def call(commands, step):
        work = commands.work
        said, printed = io.StringIO(), io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
            status = importlib.import_module(step.module).main(step.command(work)[2:])
        assert status == 0, said.getvalue()
        if step.prints:
            step.place(work).write_text(printed.getvalue())
        called.append((step.kind, step.label, step.command(work)))
        return 10**9  # bytes that it took

    monkeypatch.setattr(Commands, "__call__", call)
    return called


@pytest.fixture
def words(tmp_path, model):
    import shutil

    from eval.design import FOLDER

    data = made.data_folder(tmp_path / "data", ("nq",), 4)
    made.graded_folder(tmp_path / "dl19", 3, 4)
    texts = ("Paris is the capital of France", "a dog", "the question is one", "rivers run to the sea")
    lines = [json.dumps({"id": f"p{n}", "contents": text}) + "\n" for n, text in enumerate(texts)]
    (tmp_path / "dl19" / "corpus.jsonl").write_text("".join(lines))
    shutil.copytree(FOLDER, tmp_path / "matrix")
    methods = tmp_path / "matrix" / "methods.yaml"
    extra = "more-hints: {title: More hints, kind: untrained, adapter: qpeft-r, preset: textual, k: 3}\n"
    methods.write_text(methods.read_text() + extra)
    tables = tmp_path / "matrix" / "tables.yaml"
    listed = "first-stage, zero-shot, zero-shot-upr, hints-untrained, more-hints"
    table = f"small: {{title: S, datasets: [dl19], first_stages: [bm25], methods: [{listed}], measures: [nDCG@10]}}\n"
    tables.write_text(tables.read_text() + table)
    where = ["--data", str(data), "--matrix", str(tmp_path / "matrix"), "--model", str(model), "--device", "cpu"]
    return ["--table", "small", "--depth", "4", "--dtype", "float32", "--jobs", "1", *where]


def runs(work):
    found = {}
    for path in (work / "steps").glob("rerank-*/step.json"):
        record = json.loads(path.read_text())
        # Nor is the memory known of a command that only copied scores.
        assert (record["seconds"] is None) == (record.get("peak_bytes") is None)
        found[record["label"]] = (record["seconds"], read_run(str(path.parent / "run.trec")), path.parent.name)
    return found


@pytest.mark.slow
def test_they_rank_as_alone(words, tmp_path, in_process, capsys):
    alone, joined = tmp_path / "alone", tmp_path / "joined"
    assert reproduce.main([*words, "--work", str(alone)]) == 0
    capsys.readouterr()
    assert reproduce.main([*words, "--work", str(joined), "--together"]) == 0
    err = capsys.readouterr().err
    assert "together: dl19.bm25.zero-shot, dl19.bm25.hints-untrained, dl19.bm25.more-hints\n" in err
    expected, found = runs(alone), runs(joined)
    assert expected.keys() == found.keys() and len(found) == 4
    for label, (seconds, run, folder) in found.items():
        assert folder == expected[label][2]  # the same steps, whichever way they were done
        assert (seconds is None) == (label != "dl19.bm25.zero-shot-upr")
        for topic, hits in run.items():
            scores = {hit.docid: hit.score for hit in expected[label][1][topic]}
            assert {hit.docid: hit.score for hit in hits} == pytest.approx(scores, abs=1e-2)
    # One command for three; their own ones found all scores, and added none.
    joint = [command for kind, _, command in in_process if kind == "joint"]
    assert len(joint) == 1 and joint[0].count("--compare") == 1
    journals = {path.parent.name: path for path in (joined / "steps").glob("*/run.trec.journal")}
    full = next(path.read_text() for name, path in journals.items() if name.startswith("joint"))
    for label, (_, _, folder) in found.items():
        if label != "dl19.bm25.zero-shot-upr":
            own = journals[folder].read_text() if folder in journals else full
            assert own.startswith(full) and len(own.splitlines()) <= len(full.splitlines()) + 1
    capsys.readouterr()
    in_process.clear()
    assert reproduce.main([*words, "--work", str(joined), "--together"]) == 0
    assert in_process == [] and "together" not in capsys.readouterr().err


@pytest.mark.slow
def test_stopped_once_they_were_scored(words, tmp_path, in_process, monkeypatch):
    """What each would have taken alone is not known to the driver that goes on, either."""
    work = tmp_path / "work"
    with monkeypatch.context() as patch:
        original = runner._Runner._step

        def stopping(self, step):
            if step.kind == "rerank":
                raise KeyboardInterrupt
            original(self, step)

        patch.setattr(runner._Runner, "_step", stopping)
        assert reproduce.main([*words, "--work", str(work), "--together"]) == 130
    in_process.clear()
    assert reproduce.main([*words, "--work", str(work), "--together"]) == 0
    assert "joint" not in [kind for kind, *_ in in_process]
    assert {label for label, (seconds, *_) in runs(work).items() if seconds} == {"dl19.bm25.zero-shot-upr"}
