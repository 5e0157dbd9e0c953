"""Losses against loops over their definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.errors import InputError
from qpeft_rerank.training.losses import LOSSES, make_loss, pad_groups

GROUPS = st.lists(st.lists(st.floats(-9, 0), min_size=1, max_size=5), min_size=1, max_size=5)


def by_loop(name: str, group: list[float], margin: float, temperature: float) -> float:
    positive, negatives = group[0], group[1:]
    point = -positive
    pair = sum(max(0.0, -positive + negative + margin) for negative in negatives) / max(1, len(negatives))
    softmax = -math.log(math.exp(positive / temperature) / sum(math.exp(value / temperature) for value in group))
    return {"pointwise": point, "hinge": pair, "pointwise+hinge": point + pair, "contrastive": softmax}[name]


@pytest.mark.parametrize("name", LOSSES)
@given(groups=GROUPS, margin=st.floats(0, 2))
def test_equal_to_loops(name, groups, margin):
    flat = torch.tensor([value for group in groups for value in group], dtype=torch.float64)
    found = make_loss(name, margin, 0.5)(*pad_groups(flat, [len(group) for group in groups]))
    expected = [by_loop(name, group, margin, 0.5) for group in groups]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_gradient_is_finite_and_absent_columns_get_none(name):
    flat = torch.tensor([-1.0, -2.0, -0.5, -3.0], requires_grad=True)
    make_loss(name, 0.3, 0.1)(*pad_groups(flat, [3, 1])).sum().backward()
    assert torch.isfinite(flat.grad).all()
    single = torch.tensor([-3.0], requires_grad=True)
    loss = make_loss(name, 0.3, 0.1)(*pad_groups(single, [1]))
    assert torch.isfinite(loss).all()


@pytest.mark.parametrize(
    ("name", "margin", "temperature", "said"),
    [("best", 0, 1, "--loss best"), ("hinge", -1, 1, "--margin"), ("contrastive", 0, 0, "--temperature")],
)
def test_bad_settings(name, margin, temperature, said):
    with pytest.raises(InputError, match=said):
        make_loss(name, margin, temperature)
