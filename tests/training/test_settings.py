"""Schedules, learning rates, presets."""

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.adapters.embeddings import FrozenTable
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.training.presets import DATASETS, PRESETS, adapter_options, recipe_values
from qpeft_rerank.training.recipe import Recipe
from qpeft_rerank.training.schedule import Schedule, learning_rates


@given(st.integers(1, 500), st.floats(0, 1), st.sampled_from(["linear", "constant"]))
def test_factor_rises_then_falls_or_stays(steps, warmup, decay):
    schedule = Schedule(steps, warmup, decay)
    factors = [schedule.factor(step) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)
    assert schedule.factor(steps) == (0 if decay == "linear" else 1)


def table(rows, width, value):
    return torch.nn.Embedding.from_pretrained(torch.full((rows, width), value))


def test_rates_follow_the_model():
    small, large = learning_rates(table(10, 576, 0.14)), learning_rates(table(10, 4096, 0.02))
    assert small["embedding"] == pytest.approx(1.4e-3) and large["embedding"] == pytest.approx(2e-4)
    assert small["matrix"] == pytest.approx(8.7e-4, rel=0.01) and large["matrix"] == pytest.approx(1.2e-4, rel=0.02)
    assert learning_rates(table(2, 2, 1.0), 3e-2) == {"embedding": 3e-2, "matrix": 3e-2}
    assert learning_rates(table(2, 2, 0.0))["embedding"] == 0


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_step_is_one_per_cent_of_embeddings_as_they_are_used(tmp_path, kind, dtype):
    folder = tiny.save_model(tmp_path / kind, model_type=kind, hidden_size=256, head_dim=64)
    embedding = LanguageModel.load(str(folder), dtype, "cpu").embedding
    rate = learning_rates(embedding)["embedding"]
    used = FrozenTable(embedding)(torch.arange(embedding.num_embeddings)).pow(2).mean().sqrt().item()
    assert rate == pytest.approx(used / 100, rel=1e-3)
    own = embedding.weight.float().pow(2).mean().sqrt().item()
    if kind == "llama":
        # To the last bit: trainings stay what they were.
        assert rate == own / 100
    else:
        assert used == pytest.approx(16 * own, rel=1e-2)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("adapter", ["qpeft-r", "qpeft-a", "lora"])
@pytest.mark.parametrize("dataset", [None, *DATASETS])
def test_presets_are_recipes(preset, adapter, dataset):
    recipe = Recipe(**recipe_values(preset, adapter, dataset))
    assert (recipe.lr == 3e-2) == (preset == "faithful")
    assert (recipe.weight_decay == 0) == (preset == "faithful")
    assert isinstance(adapter_options(adapter, dataset), dict)


def test_the_authors_decay_rounds_away():
    """In bfloat16, which they train in, and not in float32."""
    weights = torch.randn(10_000, generator=torch.Generator().manual_seed(1))
    for dtype, decays in ((torch.bfloat16, False), (torch.float32, True)):
        parameter = torch.nn.Parameter(weights.to(dtype, copy=True))
        parameter.grad = torch.zeros_like(parameter)
        torch.optim.AdamW([parameter], recipe_values("faithful", "qpeft-a", None)["lr"], weight_decay=0.01).step()
        assert torch.equal(parameter, weights.to(dtype)) != decays


def test_the_authors_cells():
    cells = {
        (dataset, adapter): (recipe_values("corrected", adapter, dataset)["margin"], adapter_options(adapter, dataset))
        for dataset in DATASETS
        for adapter in ("qpeft-r", "qpeft-a")
    }
    assert cells == {
        ("nq", "qpeft-r"): (0.7, {"k": 15}),
        ("webq", "qpeft-r"): (0.0, {"k": 20}),
        ("squad", "qpeft-r"): (0.0, {"k": 10}),
        ("trivia", "qpeft-r"): (1.1, {"k": 20}),
        ("nq", "qpeft-a"): (0.0, {"heads": 2}),
        ("webq", "qpeft-a"): (0.9, {"heads": 2}),
        ("squad", "qpeft-a"): (0.5, {"heads": 2}),
        ("trivia", "qpeft-a"): (0.3, {"heads": 2}),
    }


@pytest.mark.parametrize(
    "values",
    [{"epochs": 0}, {"warmup": 2.0}, {"lr": -1.0}, {"clip": 0.0}, {"margin": -0.1}, {"weight_decay": -1.0}],
)
def test_impossible_recipes(values):
    with pytest.raises(InputError, match="--"):
        Recipe(**values)
