"""Training computes in float32 where it says so, whatever the process lets PyTorch round products to elsewhere."""

import pytest
import torch

from qpeft_rerank.training import prefix
from qpeft_rerank.training.dev import dev_from_examples, score_dev
from qpeft_rerank.training.loop import Running, Trainer
from qpeft_rerank.training.prefix_scorer import PrefixScorer
from qpeft_rerank.training.prefix_store import PrefixStore
from qpeft_rerank.training.recipe import Recipe
from qpeft_rerank.training.sampler import EpochSampler, Sampling
from tests.products import WHOLE, settings, watched

pytestmark = pytest.mark.filterwarnings("ignore:Please use the new API")


@pytest.fixture
def shorter(student):
    """What the process asks of products, once a model is loaded: factors rounded."""
    torch.set_float32_matmul_precision("medium")
    yield settings()
    torch.set_float32_matmul_precision("highest")


@pytest.fixture
def student(make_student):
    return make_student()


@pytest.fixture
def seen(shorter, monkeypatch):
    """What products of layers were computed with."""
    return watched(monkeypatch)


@pytest.mark.parametrize("store", [False, True])
def test_a_training_forwards_and_backwards(student, examples, tmp_path, monkeypatch, shorter, seen, store):
    backwards = []
    means = prefix.means_after_prefix

    def hooked(*given):
        values = means(*given)
        if values.requires_grad:
            values.register_hook(lambda gradient: backwards.append(settings()))
        return values

    monkeypatch.setattr(prefix, "means_after_prefix", hooked)
    recipe = Recipe(epochs=1, sampling=Sampling(4, 1), lr=3e-3)
    running = Running(tmp_path, prefixes=tmp_path / "kept" if store else None)
    Trainer(student, EpochSampler(examples, recipe.sampling, 1), recipe, running, "x").train()
    assert backwards and all(one == WHOLE for one in backwards)
    assert seen and all(one == WHOLE for one in seen)
    assert settings() == shorter


def test_a_dev_set_before_any_training(student, examples, tmp_path, shorter, seen):
    store = PrefixStore(tmp_path, student.model)
    scorer = PrefixScorer(student.model, student.template, None, None, store)
    score_dev(dev_from_examples(examples), scorer, 300)
    assert seen and all(one == WHOLE for one in seen)
    assert settings() == shorter
