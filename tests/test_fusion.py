"""Interpolation and tails: what trec_eval will see."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.fusion import interpolate, min_max, with_tail

SCORES = st.lists(st.floats(-500, 500), min_size=1, max_size=30)


@given(SCORES)
def test_min_max_is_within_the_unit_interval(values: list[float]) -> None:
    moved = min_max(values)
    assert min(moved) == 0.0
    assert max(moved) in (0.0, 1.0)


@given(st.lists(st.tuples(st.floats(-500, 500), st.floats(0, 50)), min_size=1, max_size=30))
def test_the_ends_of_alpha_are_the_two_rankings(pairs: list[tuple[float, float]]) -> None:
    new, old = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    assert interpolate(new, old, 1.0) == new
    assert interpolate(new, old, 0.0) == min_max(old)


def test_half_way_is_the_mean_of_both() -> None:
    assert interpolate([-10.0, -20.0], [3.0, 5.0], 0.5) == [0.5, 0.5]


@given(
    st.lists(st.tuples(st.text("abc", min_size=1, max_size=3), st.floats(-900, -1)), unique_by=lambda pair: pair[0]),
    st.integers(0, 1000),
)
def test_the_tail_stays_below_and_distinct_in_float32(head: list[tuple[str, float]], length: int) -> None:
    tail = [f"t{n}" for n in range(length)]
    ranked = with_tail(head, tail)
    scores = np.array([score for _, score in ranked], np.float32)
    assert (np.diff(scores[len(head) :]) < 0).all()
    if head and tail:
        assert scores[len(head)] < scores[: len(head)].min()
    assert [docid for docid, _ in ranked[len(head) :]] == tail


def test_unequal_lists_are_a_fault() -> None:
    with pytest.raises(ValueError, match="zip"):
        interpolate([1.0, 2.0], [1.0], 0.5)
