"""The training command, end to end on a tiny model, with every adapter."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny
import torch

from qpeft_rerank import train
from qpeft_rerank.adapters.store import load_adapter
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.sources import embedded_gguf
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.training import prefix
from qpeft_rerank.training.data import read_training_file
from qpeft_rerank.training.gradients import GradientAccumulator
from qpeft_rerank.training.losses import make_loss
from qpeft_rerank.training.sampler import EpochSampler, Sampling
from qpeft_rerank.training.students import make_student

TEXTS = {
    "sun": "The sun is a star and it is hot",
    "moon": "The moon circles the earth in a month",
    "cat": "A cat is an animal that hunts mice",
    "bread": "Bread is baked in a hot oven",
    "river": "A river carries water to the sea",
    "bee": "A bee makes honey from flowers",
}
ADAPTERS = ["qpeft-r", "qpeft-a", "soft-prompt", "lora", "prefix-tuning", "p-tuning", "prompt-tuning"]


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def files(tmp_path):
    def passage(name):
        return {"docid": name, "title": name.title(), "text": TEXTS[name]}

    names = list(TEXTS)
    lines = [
        {
            "qid": name,
            "query": f"what is a {name}",
            "answers": [name],
            "positives": [passage(name)],
            "negatives": [passage(names[(place + step) % len(names)]) for step in (1, 2, 3)],
        }
        for place, name in enumerate(names)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": n, "title": n.title(), "text": t}) + "\n" for n, t in TEXTS.items())
    )
    (tmp_path / "topics.jsonl").write_text(
        "".join(json.dumps({"id": n, "question": f"what is a {n}", "answers": [n]}) + "\n" for n in names)
    )
    (tmp_path / "run.trec").write_text(
        "".join(f"{n} Q0 {d} {rank} {-rank} x\n" for n in names for rank, d in enumerate(names, 1))
    )
    return tmp_path


def command(files, model_folder, *more, adapter="qpeft-a", dev="--dev"):
    given = ["--adapter", adapter, "--train", files / "train.jsonl", "--model", model_folder]
    given += ["--output", files / "out", "--device", "cpu", "--epochs", 2, "--queries-per-step", 2]
    given += ["--dev", files / "train.jsonl"] if dev == "--dev" else []
    if dev == "--dev-run":
        given += ["--dev-topics", files / "topics.jsonl", "--dev-run", files / "run.trec"]
        given += ["--dev-corpus", files / "corpus.jsonl"]
    if adapter == "soft-prompt":
        given += ["--prompt", "qpeft"]
    return [*map(str, given), *map(str, more)]


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_every_adapter_trains_saves_and_scores_again(files, model_folder, adapter, capsys):
    assert train.main(command(files, model_folder, adapter=adapter)) == 0
    said = capsys.readouterr().err
    assert "parameters learn" in said and "best epoch" in said
    assert not (files / "out.training").exists()
    record = json.loads((files / "out" / "training.json").read_text())
    assert record["adapter"] == adapter and len(record["dev_by_epoch"]) == 3 and record["steps"] == 6
    assert record["data"][0]["questions"] == 6 and len(record["data"][0]["sha256"]) == 64
    assert (files / "out" / "log.csv").is_file()
    card = (files / "out" / "README.md").read_text()
    assert f"--adapter {adapter}" in card and "MRR@10" in card
    # The saved adapter ranks as the trained one did when the epoch was chosen.
    model = LanguageModel.load(str(model_folder), "float32", "cpu")
    loaded = load_adapter(str(files / "out"), model)
    from qpeft_rerank.training.dev import dev_from_examples, score_dev

    dev = dev_from_examples(read_training_file(str(files / "train.jsonl")).examples)
    value = dev.metric(score_dev(dev, Scorer(model, loaded.template, loaded.hinter), 2048))
    assert value == pytest.approx(record["dev_by_epoch"][record["epoch"]])


PARTS = {
    "qpeft-r": {"table.rows", "mlp"},
    "qpeft-a": {"table.rows", "mlp", "attention"},
    "soft-prompt": {"soft.vectors"},
    "lora": {"shared"},
}


@pytest.mark.parametrize("adapter", PARTS)
@pytest.mark.parametrize("preset", ["corrected", "faithful"])
def test_gradients_reach_the_methods_parts_and_no_other(files, model_folder, adapter, preset):
    model = LanguageModel.load(str(model_folder), "float32", "cpu")
    base = dict(model.model.named_parameters())
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    template = load_template("qpeft")
    examples = read_training_file(str(files / "train.jsonl")).examples
    student = make_student(adapter, model, template, preset, {}, examples, 1)
    listed = PARTS[adapter] | ({"start", "gate"} if preset == "corrected" and "qpeft" in adapter else set())
    found = {part for part in listed if any(name.startswith(part) for name in student.parts)}
    assert found == listed
    assert all(any(name.startswith(part) for part in listed) for name in student.parts)
    parameters = [part.parameter for part in student.parts.values()]
    groups = student.encode(EpochSampler(examples, Sampling(), 1).epoch(1)[0])
    accumulator = GradientAccumulator(
        lambda sequences: prefix.means(model, sequences, student.hinter),
        make_loss("pointwise+hinge", 0.3, 0.1),
        parameters,
        4096,
    )
    with student.training():
        accumulator.add(groups, len(groups), 1)
    # Layers that start at zero, or feed one that does, move from the second step on.
    assert any(parameter.grad.abs().sum() > 0 for parameter in parameters)
    ours = {id(parameter) for parameter in parameters}
    assert all(parameter.grad is None for parameter in base.values() if id(parameter) not in ours)
    if adapter != "lora":
        after = model.model.state_dict()
        assert all(torch.equal(value, after[name]) for name, value in before.items())
    if "table.rows" in student.parts:
        touched = student.hinter.table.row_ids[student.parts["table.rows"].parameter.grad.abs().sum(1) > 0]
        used = {token for group in groups for sequence in group for token in sequence.ids}
        assert set(touched.tolist()) <= used and len(touched) > 0


@pytest.mark.parametrize(
    ("adapter", "options", "shared"),
    [
        ("qpeft-r", {}, True),
        ("qpeft-a", {}, True),
        ("qpeft-r", {"source": "vocabulary", "k": 4}, True),
        # Equal to the prompt's own embeddings at first, but they learn.
        ("qpeft-a", {"soft_prompt": True}, False),
        ("soft-prompt", {}, False),
        ("lora", {}, False),
        ("prompt-tuning", {}, False),
        ("prefix-tuning", {}, False),
    ],
)
def test_passages_are_computed_once_where_nothing_in_them_learns(files, model_folder, adapter, options, shared):
    model = LanguageModel.load(str(model_folder), "float32", "cpu")
    examples = read_training_file(str(files / "train.jsonl")).examples
    student = make_student(adapter, model, load_template("qpeft"), "corrected", options, examples, 1)
    start = student.weights()
    sequences = [
        sequence for group in student.encode(EpochSampler(examples, Sampling(), 1).epoch(1)[0]) for sequence in group
    ]
    assert prefix.prefix_works(model, sequences, student.hinter) == shared
    assert all(torch.equal(value, start[name]) for name, value in student.weights().items())
    if not shared:
        return
    grads = []
    for way in (prefix.means, prefix.means_after_prefix):
        for part in student.parts.values():
            part.parameter.grad = None
        way(model, sequences, student.hinter).sin().sum().backward()
        grads.append({name: part.parameter.grad for name, part in student.parts.items()})
    for name, grad in grads[0].items():
        if grad is None:
            assert grads[1][name] is None
        else:
            torch.testing.assert_close(grads[1][name], grad, rtol=1e-3, atol=1e-5)


def test_base_weights_do_not_change(files, model_folder):
    digest = (model_folder / "model.safetensors").read_bytes()
    model = LanguageModel.load(str(model_folder), "float32", "cpu")
    before = {name: value.clone() for name, value in model.model.state_dict().items()}
    examples = read_training_file(str(files / "train.jsonl")).examples
    from qpeft_rerank.training.loop import Running, Trainer
    from qpeft_rerank.training.recipe import Recipe

    for adapter in ("qpeft-r", "qpeft-a"):
        student = make_student(adapter, model, load_template("plain"), "corrected", {}, examples, 1)
        start = student.weights()
        recipe = Recipe(epochs=2)
        running = Running(files / adapter)
        Trainer(student, EpochSampler(examples, recipe.sampling, 1), recipe, running, "x").train()
        assert all(torch.equal(value, model.model.state_dict()[name]) for name, value in before.items())
        moved = {name for name, value in student.weights().items() if not torch.equal(value, start[name])}
        assert moved == set(student.parts)
    assert (model_folder / "model.safetensors").read_bytes() == digest


def test_dev_run_and_datasets_settings(files, model_folder, capsys):
    more = ["--dataset", "trivia", "--dev-depth", 4, "--in-batch", "--loss", "contrastive", "--k", 3]
    assert train.main(command(files, model_folder, *more, adapter="qpeft-r", dev="--dev-run")) == 0
    record = json.loads((files / "out" / "training.json").read_text())
    assert record["recipe"]["margin"] == 1.1 and record["options"] == {"k": 3}
    assert record["recipe"]["sampling"]["in_batch"] and record["recipe"]["loss"] == "contrastive"
    assert "first stage" in capsys.readouterr().err


def test_faithful_preset(files, model_folder):
    more = ["--preset", "faithful", "--dataset", "nq", "--prompt", "qpeft"]
    assert train.main(command(files, model_folder, *more, adapter="qpeft-r")) == 0
    record = json.loads((files / "out" / "training.json").read_text())
    # Batches of 2 questions: 3 negatives each, 6 pairs, 3 steps; 3 batches an epoch.
    assert record["steps"] == 2 * 3 * 3
    assert record["options"] == {"k": 15} and record["recipe"]["lr"] == 3e-2
    assert record["recipe"]["margin"] == 0.7


@pytest.mark.parametrize("wanted", ["auto", "off", "kept"])
def test_passages_states_are_kept_on_demand(files, model_folder, monkeypatch, capsys, wanted):
    seen = []
    original = prefix.means_after_prefix

    def watched(model, sequences, hinter, store=None):
        seen.append(store.folder if store else None)
        return original(model, sequences, hinter, store)

    monkeypatch.setattr(prefix, "means_after_prefix", watched)
    folder = {"auto": files / "out.training" / "prefixes", "off": None, "kept": files / "kept"}[wanted]
    more = ["--prefix-cache", folder if wanted == "kept" else wanted]
    assert train.main(command(files, model_folder, *more, adapter="qpeft-r")) == 0
    assert seen[-1] == folder
    said = capsys.readouterr().err
    assert said.count("the states of passages are kept in") == (folder is not None)
    assert not (files / "out.training").exists()
    assert (files / "kept").is_dir() == (wanted == "kept")


def test_states_that_cannot_be_kept(files, model_folder, capsys):
    assert train.main(command(files, model_folder, "--prefix-cache", files / "kept", adapter="lora")) == 0
    assert "--prefix-cache: not used" in capsys.readouterr().err
    (files / "file").write_text("x")
    assert train.main(command(files, model_folder, "--overwrite", "--prefix-cache", files / "file")) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: --prefix-cache") and "cannot be made" in said


def test_k_larger_than_the_passages(files, model_folder):
    assert train.main(command(files, model_folder, "--k", 500, adapter="qpeft-r")) == 0


def test_gradient_checkpointing_with_lora(files, model_folder):
    values = []
    for more in ([], ["--gradient-checkpointing"]):
        assert train.main(command(files, model_folder, "--overwrite", *more, adapter="lora")) == 0
        rows = (files / "out" / "log.csv").read_text().splitlines()[1:]
        values.append([float(row.split(",")[2]) for row in rows if row.split(",")[2]])
    assert values[0] == pytest.approx(values[1], rel=1e-4)


def test_output_is_refused_then_overwritten(files, model_folder, capsys):
    assert train.main(command(files, model_folder)) == 0
    first = (files / "out" / "adapter_model.safetensors").read_bytes()
    assert train.main(command(files, model_folder)) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err
    assert train.main(command(files, model_folder, "--overwrite")) == 0
    assert (files / "out" / "adapter_model.safetensors").read_bytes() == first
    assert not (files / "out.training").exists()


def test_nan_keeps_the_best_epoch(files, model_folder, monkeypatch, capsys):
    original, calls = prefix.means_after_prefix, []

    def failing(*given):
        calls.append(1)
        return original(*given) * (float("nan") if len(calls) > 8 else 1.0)

    monkeypatch.setattr(prefix, "means_after_prefix", failing)
    assert train.main(command(files, model_folder, "--epochs", 9)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: step ") and "loss is nan" in said and "holds the adapter of epoch" in said
    assert load_adapter(str(files / "out"), LanguageModel.load(str(model_folder), "float32", "cpu"))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--adapter", "qpeft-z"], "--adapter qpeft-z: give one of"),
        (["--dataset", "msmarco"], "--dataset msmarco: give nq"),
        (["--preset", "best"], "--preset best"),
        (["--loss", "l2"], "--loss l2"),
        (["--margin", "-1"], "--margin"),
        (["--lr", "0"], "--lr"),
        (["--epochs", "0"], "--epochs 0"),
        (["--negatives", "0"], "compares with negatives"),
        (["--heads", "3"], "3 heads do not divide"),
        (["--heads", "2", "--adapter", "qpeft-r"], "--heads belongs to qpeft-a"),
        (["--option", "k"], "--option k: write NAME=VALUE"),
        (["--option", "colour=1"], "no option 'colour'"),
        (["--adapter", "lora", "--option", "colour=1"], "--adapter lora"),
        (["--adapter", "soft-prompt"], "soft prompt needs a prompt piece"),
        (["--dev-run", "r"], "two ways"),
        (["--queries", "-1"], "--queries -1"),
        (["--train", "absent.jsonl"], "absent.jsonl: no such file"),
        (["--model", "/absent/model"], "/absent/model"),
        (["--prompt", "absent"], "no prompt 'absent'"),
        (["--tensorboard"], "pip install tensorboard"),
    ],
)
def test_bad_input_is_one_line(files, model_folder, more, said, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train.main(command(files, model_folder, *more)) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last
    assert not (files / "out").exists()


def test_bad_data_is_one_line(files, model_folder, capsys):
    def refused(*more, dev="--dev"):
        assert train.main(command(files, model_folder, *more, dev=dev)) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    bare = files / "bare.jsonl"
    record = {"query": "q", "positives": [], "negatives": []}
    bare.write_text(json.dumps(record) + "\n")
    assert "bare.jsonl: none of its 1 questions has a positive" in refused("--train", bare)
    bare.write_text(json.dumps(record | {"positives": [{"text": "t"}]}) + "\n")
    assert "no question has a negative passage" in refused("--train", bare)
    bare.write_text(json.dumps(record | {"query": ""}) + "\n")
    assert "bare.jsonl:1: the question is empty" in refused("--train", bare)
    (files / "run.trec").write_text("sun Q0 nowhere 1 1 x\n")
    assert "docid nowhere of the dev run is not in" in refused(dev="--dev-run")
    (files / "run.trec").write_text("other Q0 sun 1 1 x\n")
    assert "none of the dev run's 1 topics" in refused(dev="--dev-run")
    (files / "run.trec").write_text("sun Q0 moon 1 1 x\n")
    assert "no dev question has relevant and other candidates" in refused(dev="--dev-run")
    assert "go together" in refused("--dev-topics", "t", dev="")
    assert "add --dev-corpus" in refused("--dev-topics", "t", "--dev-run", "r", dev="")


def test_help_is_quick():
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-m", "qpeft_rerank.train", "--help"], check=True, capture_output=True)
    assert time.perf_counter() - begun < 1.5


@pytest.mark.slow
def test_killed_at_random_moments(files, model_folder):
    more = ["--epochs", 6, "--patience", 9, "--checkpoint-steps", 2]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    run = [sys.executable, "-m", "qpeft_rerank.train", *command(files, model_folder, *more)]
    subprocess.run(run, check=True, env=environment, capture_output=True)
    weights = files / "out" / "adapter_model.safetensors"
    whole = weights.read_bytes()
    (files / "out").rename(files / "whole")
    draw, log, kills = random.Random(2), files / "out.training" / "log.csv", 0
    for _ in range(30):
        process = subprocess.Popen(run, env=environment, stderr=subprocess.DEVNULL)
        size = log.stat().st_size if log.exists() else 0
        while process.poll() is None and (not log.exists() or log.stat().st_size <= size):
            time.sleep(0.01)
        time.sleep(draw.random() * 0.3)
        if process.poll() is not None:
            break
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert process.wait() == 0 and kills >= 2
    assert weights.read_bytes() == whole


@pytest.mark.slow
def test_two_processes_train_as_one(files, model_folder):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    launch = ["-m", "accelerate.commands.launch", "--cpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0", "-m"]
    curves = []
    for how in (["-m"], launch):
        words = command(files, model_folder, "--overwrite", adapter="qpeft-r")
        run = [sys.executable, *how, "qpeft_rerank.train", *words]
        subprocess.run(run, check=True, env=environment, capture_output=True)
        rows = [row.split(",") for row in (files / "out" / "log.csv").read_text().splitlines()[1:]]
        curves.append([float(row[2] or row[7]) for row in rows])
    assert curves[0] == pytest.approx(curves[1], rel=1e-3)
    assert len(curves[0]) == 6 + 3


@pytest.mark.slow
def test_embedded_model_learns_a_handful_of_pairs(files):
    if embedded_gguf() is None:
        pytest.skip("the embedded model is not installed")
    more = ["--model", "embedded", "--epochs", "4", "--queries", "4"]
    assert train.main(command(files, "embedded", *more)) == 0
    from qpeft_rerank.training.logbook import read_log

    rows = [float(row["loss"]) for row in read_log(files / "out" / "log.csv") if row["loss"]]
    assert sum(rows[-2:]) < sum(rows[:2])
