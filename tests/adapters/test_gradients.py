"""Gradients reach exactly what section 4 lists, and the numbers of parameters are those of 4.6."""

import pytest
import torch

from qpeft_rerank.adapters.mlp import HintMLP
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.likelihood.scorer import Scorer

PAIRS = [
    ("who wrote the first program", "Ada", "Ada Lovelace wrote the first program."),
    ("compiler bug", "", "the word bug"),
]


def backward(adapter, model, template):
    sequences = Scorer(model, template, adapter).encode(PAIRS)
    (-model.target_log_probs(sequences, adapter).mean()).backward()
    return sequences


def rows_with_gradient(adapter):
    return set(adapter.table.row_ids[adapter.table.rows.grad.abs().sum(1) > 0].tolist())


def own(sequence, kind):
    start, end = sequence.body_span(kind)
    return set(sequence.ids[start:end])


@pytest.mark.parametrize("preset", ["corrected", "faithful"])
def test_r(preset, model, qpeft):
    adapter = create_adapter("qpeft-r", model, qpeft, preset, k=4)
    adapter.cover(range(512))
    sequences = backward(adapter, model, qpeft)
    longest = max(map(len, sequences))
    ids = torch.tensor([sequence.ids + [0] * (longest - len(sequence)) for sequence in sequences])
    hints = adapter.select(sequences, ids, 4)[0]
    chosen = set()
    for row, sequence in enumerate(sequences):
        start, end = sequence.body_span("hints")
        chosen |= set(hints[row, : end - start].tolist())
    # E' of the chosen ids and of opener and closer, not of the query through the similarity.
    assert rows_with_gradient(adapter) == chosen | set(adapter.fixed.frame)
    reached = {name for name, parameter in adapter.named_parameters() if parameter.grad is not None}
    listed = {"table.rows", "mlp.net.0.weight", "mlp.net.0.bias", "mlp.net.2.weight", "mlp.net.2.bias"}
    assert reached == listed | ({"start", "gate"} if preset == "corrected" else set())
    assert adapter.mlp.net[2].weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.model.parameters())


@pytest.mark.parametrize("preset", ["corrected", "faithful"])
def test_a(preset, model, qpeft):
    adapter = create_adapter("qpeft-a", model, qpeft, preset)
    adapter.cover(range(512))
    sequences = backward(adapter, model, qpeft)
    queries = set().union(*(own(sequence, "target") for sequence in sequences))
    assert rows_with_gradient(adapter) == queries | set(adapter.fixed.frame)
    assert adapter.touched(sequences) == queries
    for name, parameter in adapter.named_parameters():
        assert parameter.grad is not None, name
    assert adapter.attention.in_proj_weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in model.model.parameters())


def test_rows_that_cannot_train_stay_those_of_the_model(model, qpeft):
    adapter = create_adapter("qpeft-a", model, qpeft)
    sequences = backward(adapter, model, qpeft)
    assert rows_with_gradient(adapter) <= set(adapter.fixed.frame)
    adapter.cover(adapter.touched(sequences))
    kept = set(adapter.table.row_ids.tolist())
    assert kept == set(adapter.fixed.frame) | adapter.touched(sequences)
    assert len(adapter.weights()["table.rows"]) == 0


def test_r_covers_what_can_be_chosen(model, qpeft):
    adapter = create_adapter("qpeft-r", model, qpeft)
    sequences = Scorer(model, qpeft, adapter).encode(PAIRS)
    assert adapter.touched(sequences) == own(sequences[0], "passage") | own(sequences[1], "passage")


def test_soft_prompt(model, qpeft):
    adapter = create_adapter("soft-prompt", model, qpeft)
    backward(adapter, model, qpeft)
    assert [name for name, _ in adapter.named_parameters()] == ["soft.vectors"]
    assert (adapter.soft.vectors.grad.abs().sum(1) > 0).all()


def test_what_decays_and_what_lives_among_embeddings(model, qpeft):
    adapter = create_adapter("qpeft-a", model, qpeft, soft_prompt=True)
    parts = adapter.trainable_parts()
    assert {id(part.parameter) for part in parts.values() if part.decay} == {
        id(adapter.mlp.net[0].weight),
        id(adapter.mlp.net[2].weight),
        id(adapter.attention.in_proj_weight),
        id(adapter.attention.out_proj.weight),
    }
    embeddings = {name for name, part in parts.items() if part.role == "embedding"}
    biases = {name for name, value in adapter.named_parameters() if name.endswith("bias")}
    assert len(biases) == 4
    assert embeddings == {"table.rows", "soft.vectors", "start", "gate"} | biases
    faithful = create_adapter("qpeft-a", model, qpeft, "faithful")
    assert all(part.decay for part in faithful.trainable_parts().values())


def arithmetic(size, d, attention):
    return size * d + 2 * (d * d + d) + (4 * d * d + 4 * d if attention else 0)


def test_parameters_are_those_of_the_method(model, qpeft):
    for name, attention in (("qpeft-r", False), ("qpeft-a", True)):
        adapter = create_adapter(name, model, qpeft, "faithful")
        count = sum(part.parameter.numel() for part in adapter.trainable_parts().values())
        assert count == arithmetic(512, 32, attention)
    assert arithmetic(32000, 4096, False) == 164_634_624
    assert arithmetic(32000, 4096, True) == 231_759_872
    with torch.device("meta"):
        assert sum(p.numel() for p in HintMLP(4096, 1, False).parameters()) == 33_562_624
        attention_layer = torch.nn.MultiheadAttention(4096, 2)
    assert sum(p.numel() for p in attention_layer.parameters()) == 67_125_248
