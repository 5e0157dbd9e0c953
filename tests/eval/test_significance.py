"""Tests, correction and intervals, against scipy and against plain loops."""

import itertools
import random

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from eval import significance
from eval.significance import bootstrap_intervals, holm, paired_t, randomisation

values = st.floats(-1, 1, allow_subnormal=False).map(lambda value: round(value, 3))
columns = st.integers(2, 8).flatmap(
    lambda n: st.lists(st.lists(values, min_size=n, max_size=n), min_size=1, max_size=3)
)


@given(columns)
def test_t_test_is_scipys(rows):
    differences = numpy.array(rows).T
    found = paired_t(differences)
    for column, p in zip(differences.T, found, strict=True):
        if numpy.ptp(column) == 0:
            assert p == 1.0
        else:
            assert p == pytest.approx(stats.ttest_rel(column, numpy.zeros(len(column))).pvalue)


def test_differences_that_are_equal_but_for_their_last_digits_tell_nothing():
    assert paired_t(numpy.array([[0.3], [0.1 + 0.2], [0.3]]))[0] == 1.0


@given(columns)
def test_randomisation_of_few_topics_is_exact(rows):
    differences = numpy.array(rows).T
    for column, p in zip(differences.T, randomisation(differences), strict=True):
        total, count = 0, 0
        for signs in itertools.product((1, -1), repeat=len(column)):
            total += 1
            count += abs(sum(s * d for s, d in zip(signs, column, strict=True))) >= abs(sum(column)) - 1e-9
        assert p == pytest.approx(count / total)


def test_randomisation_of_many_topics_is_near_scipys():
    draw = numpy.random.default_rng(1)
    differences = draw.normal([0.0, 0.15, 0.4], 1.0, (60, 3))
    found = randomisation(differences)
    for column, p in zip(differences.T, found, strict=True):
        theirs = stats.permutation_test(
            (column, numpy.zeros_like(column)),
            lambda a, b, axis: numpy.mean(a - b, axis=axis),
            permutation_type="samples",
            n_resamples=20_000,
            rng=numpy.random.default_rng(2),
            vectorized=True,
        ).pvalue
        assert p == pytest.approx(theirs, abs=0.02)
    assert (found == randomisation(differences)).all()
    assert randomisation(numpy.zeros((40, 1)))[0] == 1.0


def test_randomisation_is_the_same_whatever_is_compared_with_it():
    draw = numpy.random.default_rng(3)
    differences = draw.normal(0.1, 1.0, (50, 4))
    alone = [randomisation(differences[:, [place]])[0] for place in range(4)]
    assert randomisation(differences) == pytest.approx(alone)


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_is_the_textbooks(p_values):
    found = holm(p_values)
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    for rank, place in enumerate(order):
        steps = [(len(p_values) - before) * p_values[order[before]] for before in range(rank + 1)]
        assert found[place] == pytest.approx(min(1.0, max(steps)))
        assert found[place] >= p_values[place]


def one_interval(*strata):
    low, high = bootstrap_intervals([column[:, None] for column in strata])
    return float(low[0]), float(high[0])


def test_bootstrap_interval():
    draw = numpy.random.default_rng(4)
    sample = draw.normal(0.5, 0.2, 400)
    low, high = one_interval(sample)
    half = 1.96 * sample.std() / 20
    assert low == pytest.approx(sample.mean() - half, abs=0.003)
    assert high == pytest.approx(sample.mean() + half, abs=0.003)
    theirs = stats.bootstrap((sample,), numpy.mean, method="percentile", rng=draw).confidence_interval
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.003)
    assert one_interval(numpy.ones(5)) == (1.0, 1.0)
    # Two strata of different sizes count the same.
    assert one_interval(numpy.zeros(10), numpy.ones(1000)) == (0.5, 0.5)
    assert all(map(numpy.isnan, one_interval(numpy.zeros(0))))


def test_columns_have_the_intervals_that_they_have_alone():
    sample = numpy.random.default_rng(6).random((30, 4))
    low, high = bootstrap_intervals([sample, sample[:7]])
    for place in range(4):
        alone = one_interval(sample[:, place], sample[:7, place])
        assert (low[place], high[place]) == pytest.approx(alone)


def test_intervals_cover(monkeypatch):
    """95 % intervals of the mean hold the true mean about 95 times in 100."""
    monkeypatch.setattr(significance, "ROUNDS", 500)
    chance = random.Random(5)
    held = 0
    for _ in range(100):
        low, high = one_interval(numpy.array([chance.random() < 0.4 for _ in range(80)], float))
        held += low <= 0.4 <= high
    assert 87 <= held <= 100
