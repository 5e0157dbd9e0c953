"""The loop: it learns, resumes to the same bits, stops in time, and leaves the model alone."""

import dataclasses
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from qpeft_rerank.errors import InputError, MissingError
from qpeft_rerank.training import prefix
from qpeft_rerank.training.checkpoints import Checkpoints
from qpeft_rerank.training.dev import dev_from_examples
from qpeft_rerank.training.logbook import draw, read_log
from qpeft_rerank.training.loop import Running, Trainer
from qpeft_rerank.training.recipe import Recipe
from qpeft_rerank.training.sampler import EpochSampler, Sampling
from tests.killing import kill_until_done
from tests.launching import TWO_PROCESSES

RECIPE = Recipe(epochs=3, sampling=Sampling(2, 1), lr=3e-3, patience=3)


def trainer(student, examples, folder, recipe=RECIPE, dev=True, **running):
    sampler = EpochSampler(examples, recipe.sampling, recipe.seed)
    judge = dev_from_examples(examples) if dev else None
    running = Running(folder, **{"batch_tokens": 300, "checkpoint_steps": 3} | running)
    return Trainer(student, sampler, recipe, running, "data", judge)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_learns_and_leaves_the_model_alone(make_student, examples, tmp_path):
    student = make_student()
    before = {name: value.clone() for name, value in student.model.model.state_dict().items()}
    sequences = student.encode(EpochSampler(examples, Sampling(8, 3), 1).epoch(1)[0])

    def gap():
        with torch.no_grad():
            values = [prefix.means(student.model, group, student.hinter) for group in sequences]
        return float(sum(value[0] - value[1:].mean() for value in values)) / len(values)

    untrained = gap()
    recipe = dataclasses.replace(RECIPE, epochs=12, patience=12, sampling=Sampling(4, 2), lr=1e-2)
    outcome = trainer(student, examples, tmp_path, recipe).train()
    assert gap() > untrained + 0.05
    assert max(outcome.dev[1:]) == outcome.dev[outcome.epoch] >= outcome.dev[0]
    after = student.model.model.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    rows = read_log(tmp_path / "log.csv")
    losses = [float(row["loss"]) for row in rows if row["loss"]]
    assert len(losses) == outcome.steps == 24
    assert sum(losses[-4:]) < sum(losses[:4])
    assert [float(row["dev"]) for row in rows if row["dev"]] == pytest.approx(list(outcome.dev), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [1, 4, 6, 9])
def test_interrupted_training_ends_with_the_same_bits(make_student, examples, tmp_path, interrupted, stop_at):
    whole = make_student(dropout=0.2)
    expected = trainer(whole, examples, tmp_path / "whole").train()

    broken = make_student(dropout=0.2)
    first = trainer(broken, examples, tmp_path / "broken")
    interrupted(first, stop_at)
    again = make_student(dropout=0.2)
    found = trainer(again, examples, tmp_path / "broken").train()
    assert found == expected
    assert same(again.weights(), whole.weights())
    columns = ("step", "epoch", "loss", "lr", "grad_norm", "tokens", "dev")
    logs = [read_log(tmp_path / name / "log.csv") for name in ("whole", "broken")]
    assert [[row[c] for c in columns] for row in logs[0]] == [[row[c] for c in columns] for row in logs[1]]


def test_another_trainings_state_is_refused(make_student, examples, tmp_path):
    trainer(make_student(), examples, tmp_path, dev=False).train()
    with pytest.raises(InputError, match="unfinished training with other settings"):
        trainer(make_student(), examples, tmp_path, dataclasses.replace(RECIPE, margin=0.9)).train()


def test_another_trainings_state_is_forgotten_on_demand(make_student, examples, tmp_path):
    trainer(make_student(), examples, tmp_path, dev=False).train()
    (tmp_path / "tensorboard").mkdir()
    other = dataclasses.replace(RECIPE, margin=0.9)
    assert trainer(make_student(), examples, tmp_path, other, dev=False, overwrite=True).train().steps == 12
    assert {row["step"] for row in read_log(tmp_path / "log.csv")} == {str(step + 1) for step in range(12)}
    assert not (tmp_path / "tensorboard").exists()


def test_how_it_runs_is_no_other_setting(make_student, examples, tmp_path):
    first, second = make_student(), make_student()
    trainer(first, examples, tmp_path / "a", dev=False).train()
    trainer(second, examples, tmp_path / "b", dev=False, gradient_checkpointing=True, batch_tokens=80).train()
    for name, value in first.weights().items():
        torch.testing.assert_close(value, second.weights()[name], rtol=0, atol=2e-3)


def test_damaged_checkpoint_is_one_line(make_student, examples, tmp_path):
    trainer(make_student(), examples, tmp_path, dev=False).train()
    newest = sorted((tmp_path / "checkpoints").glob("step-*"))[-1]
    (newest / "weights.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"step-.*damaged"):
        trainer(make_student(), examples, tmp_path, dev=False).train()


def test_stops_early_and_keeps_the_best(make_student, examples, tmp_path, monkeypatch):
    values = iter([0.1, 0.5, 0.7, 0.6, 0.7, 0.65, 0.9])
    kept = {}
    student = make_student()

    def judge(self, progress):
        kept[len(self._state.dev)] = self.student.weights()
        self._state.dev.append(next(values))

    monkeypatch.setattr(Trainer, "_judge", judge)
    outcome = trainer(student, examples, tmp_path, dataclasses.replace(RECIPE, epochs=20)).train()
    assert outcome.dev == (0.1, 0.5, 0.7, 0.6, 0.7, 0.65)
    assert outcome.epoch == 2 and outcome.early
    assert same(student.weights(), kept[2])


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_not_a_number_stops_and_keeps_the_last_good_state(make_student, examples, tmp_path, monkeypatch, what):
    means, calls = prefix.means_after_prefix, 0

    def failing(*arguments):
        nonlocal calls
        calls += 1
        value = means(*arguments)
        if calls < 30:
            return value
        if what == "loss":
            return value * float("nan")
        value.register_hook(lambda gradient: gradient * float("inf"))
        return value

    monkeypatch.setattr(prefix, "means_after_prefix", failing)
    student = make_student()
    with pytest.raises(InputError, match=r"step \d+: the .*; train again with --overwrite"):
        trainer(student, examples, tmp_path, dataclasses.replace(RECIPE, epochs=30, patience=30)).train()
    assert all(torch.isfinite(value).all() for value in student.weights().values())
    folders = sorted((tmp_path / "checkpoints").glob("step-*"))
    assert folders and all((folder / "weights.safetensors").is_file() for folder in folders)


@pytest.mark.parametrize("checkpoint_steps", [3, 99])
def test_full_disk_is_one_line(make_student, examples, tmp_path, monkeypatch, checkpoint_steps):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    # What is written first: a checkpoint, or the weights of the first epoch.
    with pytest.raises(InputError, match=r"checkpoints: a checkpoint cannot be written \(No space left"):
        trainer(make_student(), examples, tmp_path, dev=False, checkpoint_steps=checkpoint_steps).train()


def test_two_checkpoints_are_kept(make_student, examples, tmp_path):
    trainer(make_student(), examples, tmp_path, dev=False, checkpoint_steps=1).train()
    assert [path.name for path in sorted((tmp_path / "checkpoints").iterdir())] == [
        "best-0003.safetensors",
        "step-00000011",
        "step-00000012",
    ]


def test_mend_after_a_kill_between_two_renames(tmp_path):
    aside = tmp_path / ".step-00000004.old"
    aside.mkdir(parents=True)
    Checkpoints(tmp_path).mend()
    assert (tmp_path / "step-00000004").is_dir() and not aside.exists()


def test_picture(make_student, examples, tmp_path):
    pytest.importorskip("matplotlib")
    trainer(make_student(), examples, tmp_path).train()
    assert draw(tmp_path / "log.csv", tmp_path / "training.png", 0.4)
    assert (tmp_path / "training.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_is_optional(make_student, examples, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingError, match="pip install tensorboard"):
        trainer(make_student(), examples, tmp_path, tensorboard=True).train()


@pytest.mark.parametrize("stop", [None, 4])
def test_tensorboard_is_closed_however_a_training_ends(
    make_student, examples, tmp_path, monkeypatch, interrupted, stop
):
    told = []
    board = SimpleNamespace(add_scalar=lambda *values: told.append(values), close=lambda: told.append("closed"))
    module = SimpleNamespace(SummaryWriter=lambda folder, purge_step: board)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    made = trainer(make_student(), examples, tmp_path, dev=False, tensorboard=True)
    made.train() if stop is None else interrupted(made, stop)
    assert told.index("closed") == len(told) - 1
    assert len([values for values in told if values[0] == "loss"]) == (stop or 12)


PROGRAM = textwrap.dedent("""
    import importlib.util, sys
    from pathlib import Path
    import torch
    spec = importlib.util.spec_from_file_location("tiny", sys.argv[1])
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    from accelerate import Accelerator
    from safetensors.torch import save_file
    from qpeft_rerank.collection.passages import Passage
    from qpeft_rerank.likelihood.language_model import LanguageModel
    from qpeft_rerank.likelihood.sources import ModelSource
    from qpeft_rerank.prompt.templates import load_template
    from qpeft_rerank.training.dev import dev_from_examples
    from qpeft_rerank.training.examples import Example
    from qpeft_rerank.training.loop import Running, Trainer
    from qpeft_rerank.training.recipe import Recipe
    from qpeft_rerank.training.sampler import EpochSampler, Sampling
    from qpeft_rerank.adapters.base import TrainablePart
    from qpeft_rerank.training.student import Student
    from qpeft_rerank.training.workers import Workers

    names = list(tiny.THINGS)
    examples = [
        Example(name, f"what is a {name}", (), (Passage(name, "", tiny.THINGS[name]),),
                tuple(Passage(other, "", tiny.THINGS[other]) for other in names if other != name))
        for name in names
    ]
    model = LanguageModel.load(ModelSource("tiny", Path(sys.argv[2])), "float32", "cpu")
    hinter = tiny.BagHinter(model.embedding, float(sys.argv[4]))
    parts = {name: TrainablePart(value, "matrix", True) for name, value in hinter.named_parameters()}
    student = Student(model, load_template("plain"), hinter.eval(), parts, (hinter,))
    recipe = Recipe(epochs=4, sampling=Sampling(3, 2), lr=3e-3, patience=9)
    folder = Path(sys.argv[3])
    workers = Workers(Accelerator(cpu=True))
    Trainer(student, EpochSampler(examples, recipe.sampling, 1), recipe, Running(folder, 300, 2), "x",
            dev_from_examples(examples), workers).train()
    if workers.main:
        print(workers.count)
        save_file(student.weights(), folder / "final.safetensors")
""")


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


def command(program, model_folder, folder, dropout="0.2"):
    tiny = Path(__file__).with_name("conftest.py")
    return [str(program), str(tiny), str(model_folder), str(folder), dropout]


ENVIRONMENT = os.environ | {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(map(str, Path(__file__).parents[1:3])),
}


@pytest.mark.slow
def test_killed_at_random_moments(program, model_folder, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run = [sys.executable, *command(program, model_folder, whole)]
    subprocess.run(run, check=True, env=ENVIRONMENT, capture_output=True)
    run[-2] = str(killed)
    kill_until_done(run, ENVIRONMENT, killed / "log.csv", killed, by=80, pause=0.4)
    assert (whole / "final.safetensors").read_bytes() == (killed / "final.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_train_as_one(program, model_folder, tmp_path):
    one = command(program, model_folder, tmp_path / "one", "0")
    subprocess.run([sys.executable, *one], check=True, env=ENVIRONMENT, capture_output=True)
    two = command(program, model_folder, tmp_path / "two", "0")
    launch = [sys.executable, *TWO_PROCESSES, *two]
    assert subprocess.run(launch, check=True, env=ENVIRONMENT, capture_output=True, text=True).stdout.split() == ["2"]
    curves = [
        [float(row["loss"] or row["dev"]) for row in read_log(tmp_path / name / "log.csv")] for name in ("one", "two")
    ]
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    assert len(curves[0]) == 12 + 5
