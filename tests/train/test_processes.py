"""The training command as processes: quick to help, killed, two at once, on the embedded model."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qpeft_rerank import train
from qpeft_rerank.likelihood.sources import embedded_gguf
from tests.killing import kill_until_done
from tests.launching import TWO_PROCESSES
from tests.train.words import command

# A training that diverges after its first epochs, and takes its time to save.
DIVERGES = """
import sys, time
from qpeft_rerank import train
from qpeft_rerank.training.session import Session
from qpeft_rerank.training.loop import Trainer
means, calls, save = Trainer._mean_log_probs, [], Session._save

def failing(self, sequences):
    calls.append(1)
    return means(self, sequences) * (float("nan") if len(calls) > 8 else 1.0)

def slow(self, *given):
    time.sleep(5)
    save(self, *given)

Trainer._mean_log_probs, Session._save = failing, slow
sys.exit(train.main(sys.argv[1:]))
"""
# The second of two processes meets a file that the first does not.
MEETS = """
import os, sys
from qpeft_rerank import train
from qpeft_rerank.errors import InputError
from qpeft_rerank.training import session
load = session.LanguageModel.load

def failing(*given):
    if os.environ["RANK"] == os.environ["DAMAGED"]:
        raise InputError("damaged here")
    return load(*given)

session.LanguageModel.load = failing
sys.exit(train.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_at_random_moments(files, model_folder):
    more = ["--epochs", 6, "--patience", 9, "--checkpoint-steps", 2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    run = [sys.executable, "-m", "qpeft_rerank.train", *command(files, model_folder, *more)]
    subprocess.run(run, check=True, env=environment, capture_output=True)
    weights = files / "out" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    (files / "out").rename(files / "whole")
    kill_until_done(run, environment, files / "out.training" / "log.csv", files / "out", by=80, pause=0.3, seed=2)
    assert weights.read_bytes() == whole


@pytest.mark.slow
def test_two_processes_train_as_one(files, model_folder):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    curves, dev = [], []
    for how in (["-m"], [*TWO_PROCESSES, "-m"]):
        words = command(files, model_folder, "--overwrite", adapter="qpeft-r")
        run = [sys.executable, *how, "qpeft_rerank.train", *words]
        said = subprocess.run(run, check=True, env=environment, capture_output=True, text=True).stderr
        assert ("in 2 processes" in said) == (how != ["-m"])
        dev += [line for line in said.splitlines() if "zero-shot" in line]
        rows = [row.split(",") for row in (files / "out" / "log.csv").read_text().splitlines()[1:]]
        curves.append([float(row[2] or row[7]) for row in rows])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    assert len(curves[0]) == 6 + 3
    assert len(dev) == 2 and dev[0] == dev[1]


@pytest.mark.slow
def test_two_processes_that_diverge_leave_the_best_epoch(files, model_folder):
    """A launcher stops the others where one has ended with a fault: none may before the main one has saved."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    (files / "diverges.py").write_text(DIVERGES, "utf-8")
    run = [sys.executable, *TWO_PROCESSES, str(files / "diverges.py"), *command(files, model_folder, "--epochs", 9)]
    done = subprocess.run(run, env=environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert "holds the adapter of epoch" in done.stderr
    assert (files / "out" / "adapter_config.json").is_file() and not (files / "out.training").exists()


def assert_one_line(run, said, **environment):
    """Two processes end, and one line says why."""
    environment |= os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, *TWO_PROCESSES, *run], env=environment, capture_output=True, text=True)
    faults = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode != 0 and len(faults) == 1 and said in faults[0], done.stderr
    # The launcher's own is about the process that it found ended.
    assert "qpeft_rerank/" not in done.stderr.partition("Traceback")[2]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--loss", "hindge"], "hindge"),
        (["--train", "nowhere.jsonl"], "nowhere.jsonl"),
        (["--device", "cuda:1"], "each process takes a GPU of its own"),
    ],
    ids=["before all", "file", "device"],
)
def test_a_fault_of_two_processes_is_one_line(files, model_folder, more, said):
    assert_one_line(["-m", "qpeft_rerank.train", *command(files, model_folder, *more)], said)


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_fault_of_one_process_alone_is_one_line(files, model_folder, rank):
    (files / "meets.py").write_text(MEETS, "utf-8")
    assert_one_line([str(files / "meets.py"), *command(files, model_folder)], "damaged here", DAMAGED=rank)


@pytest.mark.slow
def test_embedded_model_learns_a_handful_of_pairs(files):
    if embedded_gguf() is None:
        pytest.skip("the embedded model is not installed")
    more = ["--model", "embedded", "--epochs", "4", "--queries", "4"]
    assert train.main(command(files, "embedded", *more)) == 0
    from qpeft_rerank.training.logbook import read_log

    rows = [float(row["loss"]) for row in read_log(files / "out" / "log.csv") if row["loss"]]
    assert sum(rows[-2:]) < sum(rows[:2])
