"""Every adapter through the training command: what learns, what does not, what is saved."""

import json

import pytest
import torch

from qpeft_rerank import train
from qpeft_rerank.adapters.store import load_adapter
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.training import prefix
from qpeft_rerank.training.data import read_training_file
from qpeft_rerank.training.examples import Example
from qpeft_rerank.training.gradients import GradientAccumulator
from qpeft_rerank.training.losses import make_loss
from qpeft_rerank.training.sampler import EpochSampler, Group, Sampling
from qpeft_rerank.training.students import VIRTUAL_TOKENS, make_student
from tests.train.words import command

ADAPTERS = ["qpeft-r", "qpeft-a", "soft-prompt", "lora", "prefix-tuning", "p-tuning", "p-tuning-v2", "prompt-tuning"]


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


def test_virtual_tokens_take_room_in_training(files, model_folder):
    model = LanguageModel.load(str(model_folder), "float32", "cpu")
    long = Passage("d", "", "hot " * 400)
    example = Example("q", "what is hot", (), (long,), ())
    made = make_student("prompt-tuning", model, load_template("plain"), "corrected", {}, [example], 1)
    ((sequence,),) = made.encode([Group(example.query, (long,))])
    # As much as the context holds after the prompt's own vectors, as the scorer has it.
    assert len(sequence) + VIRTUAL_TOKENS == model.max_tokens
    assert sequence == made.scorer().encode([(example.query, "", long.text)])[0]


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
