"""A whole table at scale mini, with real commands: killed, resumed, asked again, damaged."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eval import reproduce
from eval.commands import Commands
from qpeft_rerank.trec.qrels import read_qrels
from qpeft_rerank.trec.runs import read_run

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def records(work, kind="*"):
    found = {}
    for path in (work / "steps").glob(f"{kind}-*/step.json"):
        found[path.parent] = json.loads(path.read_text())
    return found


@pytest.fixture(scope="module")
def words(data, model, tmp_path_factory):
    pytest.importorskip("jnius_config", reason="Pyserini is not installed")
    work = tmp_path_factory.mktemp("work") / "eval"
    table = ["--table", "main", "--datasets", "nq", "squad", "--methods", "first-stage", "zero-shot", "qpeft-a"]
    size = ["--depth", "5", "--queries", "4", "--dev-queries", "2", "--dev-depth", "4", "--epochs", "40"]
    where = ["--data", str(data), "--work", str(work), "--model", str(model)]
    return [*table, *size, *where, "--device", "cpu", "--jobs", "2"]


@pytest.fixture(scope="module")
def killed(words):
    """A driver that SIGKILL met in its first training; the folders that were finished by then, with their times."""
    work = Path(words[words.index("--work") + 1])
    with subprocess.Popen([sys.executable, "-m", "eval.reproduce", *words], cwd=ROOT, stderr=subprocess.PIPE) as driver:
        while not any((work / "steps").glob("train-*/adapter.training/checkpoints/step-*")):
            assert driver.poll() is None, driver.stderr.read()
            time.sleep(0.05)
        driver.send_signal(signal.SIGKILL)
    finished = {folder: os.stat(folder / "step.json").st_mtime_ns for folder in records(work)}
    begun = [folder for folder, record in records(work).items() if record["state"] == "begun"]
    assert 1 <= len(begun) <= 2 and len(finished) - len(begun) >= 5
    training = next(folder for folder in begun if any(folder.glob("adapter.training/checkpoints/step-*")))
    return work, {folder: time for folder, time in finished.items() if folder not in begun}, training


@pytest.fixture(scope="module")
def finished(killed, words):
    """The same command again: it takes up the training and ends."""
    work, before, training = killed
    assert reproduce.main(words) == 0
    assert "going on after step" in (training / "log.txt").read_text()
    assert {folder: os.stat(folder / "step.json").st_mtime_ns for folder in before} == before
    return work, training, (work / "results" / "mini" / "main" / "table.md").read_bytes()


@pytest.fixture
def again(finished, words, monkeypatch):
    """Give the command once more; return the kinds of steps that it ran, and the table."""
    work, _, _ = finished
    run, call = [], Commands.__call__

    def counted(commands, step):
        run.append(step.kind)
        return call(commands, step)

    monkeypatch.setattr(Commands, "__call__", counted)

    def give(*more):
        run.clear()
        assert reproduce.main([*words, *more]) == 0
        return sorted(run), (work / "results" / "mini" / "main" / "table.md").read_bytes()

    return give


def test_the_table_is_what_the_runs_say(finished):
    import pandas

    work, _, text = finished
    folder = work / "results" / "mini" / "main"
    assert b"| NQ | Q-PEFT-A |" in text and b"| Mean | First stage |" in text and text.count(b"[new]") == 12
    assert {path.name for path in folder.iterdir()} == {
        "table.md",
        "table.tex",
        "table.csv",
        "cost.md",
        "cost.csv",
        "significance.csv",
        "expected.yaml",
    }
    table = pandas.read_csv(folder / "table.csv").set_index(["dataset", "row", "convention", "measure"])["mean"]
    for record in records(work, "evaluate").values():
        words = record["command"]
        qrels = read_qrels(words[words.index("--qrels") + 1])
        run = read_run(words[words.index("--run") + 1])
        dataset, _, row = record["label"].split(".")
        ranks = [[qrels[topic][hit.docid] for hit in hits[:10]] for topic, hits in run.items()]
        ranks = [grades for grades in ranks if any(grades)]
        expected = 100 * sum(1 / (1 + grades.index(1)) for grades in ranks) / len(ranks)
        assert table[dataset, row, "clean", "MRR@10"] == pytest.approx(expected)


def test_costs_are_what_the_steps_recorded(finished):
    import pandas

    work, training, _ = finished
    cost = pandas.read_csv(work / "results" / "mini" / "main" / "cost.csv").set_index("method")
    adapter = cost.loc["Q-PEFT-A"]
    said = [json.loads((folder / "adapter" / "training.json").read_text()) for folder in records(work, "train")]
    assert adapter.parameters == sum(record["parameters"] for record in said) / 2 > 0
    asked = sum(file["questions"] for record in said for file in record["data"])
    assert adapter.questions == asked / 2 > 0
    # The training that was killed took a time that nobody knows; the other one's is shown.
    known = [record["seconds"] for record in records(work, "train").values() if record["seconds"]]
    assert records(work, "train")[training]["seconds"] is None and len(known) <= 1
    assert adapter.training_seconds == pytest.approx(known[0]) if known else pandas.isna(adapter.training_seconds)
    assert 5e7 < adapter.reranking_bytes < 4e9 and adapter.question_seconds > 0
    assert pandas.isna(cost.loc["Zero-shot, plain"].parameters)
    assert "| Zero-shot, plain | – | – | – | – |" in (work / "results" / "mini" / "main" / "cost.md").read_text()


def test_asked_again_nothing_runs(finished, again, capsys):
    assert again() == ([], finished[2])
    assert "23 steps done, 0 to do\n" in capsys.readouterr().err


def test_a_deleted_run_is_made_again_and_nothing_else(finished, again):
    work, _, text = finished
    label = "squad.bm25.zero-shot"
    folder = next(folder for folder, record in records(work, "rerank").items() if record["label"] == label)
    (folder / "run.trec").unlink()
    assert again() == (["rerank"], text)


def test_a_damaged_file_is_made_again(finished, again):
    work, _, text = finished
    path = next(iter(records(work, "judge"))) / "qrels.txt"
    path.write_text(path.read_text()[:-9])
    assert again() == (["judge"], text)


def test_an_uninterrupted_training_gives_the_same_table(finished, again):
    _, training, text = finished
    for path in (training / "adapter").iterdir():
        path.unlink()
    (training / "adapter").rmdir()
    (training / "step.json").unlink()
    run, table = again()
    assert (run, table) == (["train"], text)


def test_another_depth_shares_what_it_can(again):
    run, _ = again("--depth", "4")
    # The index, the samples, the minings and the trainings are those of before, of both data sets.
    assert run == ["evaluate"] * 6 + ["judge"] * 2 + ["rerank"] * 4 + ["retrieve"] * 2


def test_stored_expectations_are_met(finished, words, tmp_path, capsys):
    import shutil

    import yaml

    from eval.design import FOLDER

    work, _, _ = finished
    assert reproduce.main(words) == 0
    found = yaml.safe_load((work / "results" / "mini" / "main" / "expected.yaml").read_text())
    shutil.copytree(FOLDER, tmp_path / "matrix")
    found["figures"]["mini"]["nq.bm25.first-stage"]["clean"]["MRR@10"] += 5
    tolerance = {"tolerance": {"ok": 0.02, "okish": 1.0, "topics": 0}}
    (tmp_path / "matrix" / "expected.yaml").write_text(yaml.safe_dump(tolerance | found))
    capsys.readouterr()
    assert reproduce.main([*words, "--matrix", str(tmp_path / "matrix")]) == 0
    out = capsys.readouterr().out
    assert out.count("[OK]") == 5 and out.count("[FAIL] expected MRR@10") == 1
