"""Paired tests, Holm's correction and bootstrap intervals over topics.

The authors test rerankers against the first stage only, by an uncorrected paired t-test for each
measure. Here every comparison of a family is corrected, and rerankers are compared, too.
"""

from collections.abc import Sequence

import numpy
from scipy import stats

ROUNDS = 10_000
_SEED = 42
_LEVEL = 0.95
# Up to so many topics all sign patterns are tried; for more there are too many (2^13 is 8,192).
_EXACT = 13
# Numbers of one block of random draws in memory.
_BLOCK = 4_000_000


def paired_t(differences: numpy.ndarray) -> numpy.ndarray:
    """Two-sided p-values of paired t-tests.

    :param differences: ``[topics, comparisons]``; a column of zeros has p = 1, fewer than two topics, too.
    :return: ``[comparisons]``.
    """
    differences = numpy.asarray(differences, float)
    result = numpy.ones(differences.shape[1])
    # Equal differences of all topics leave no variance to test with; the randomisation test can.
    # Equal ones may differ in their last digits.
    least = 1e-12 * numpy.abs(differences).max(axis=0, initial=0.0)
    usable = (numpy.ptp(differences, axis=0) > least) if len(differences) > 1 else numpy.zeros(len(result), bool)
    if usable.any():
        result[usable] = stats.ttest_1samp(differences[:, usable], 0.0, axis=0).pvalue
    return result


def randomisation(differences: numpy.ndarray) -> numpy.ndarray:
    """Two-sided p-values of the paired randomisation test: under the null, a topic's sign is a coin's.

    Exact for few topics; else :data:`ROUNDS` draws, and the observed one counts as a draw.

    :param differences: ``[topics, comparisons]``.
    :return: ``[comparisons]``.
    """
    differences = numpy.asarray(differences, float)
    topics, comparisons = differences.shape
    observed = numpy.abs(differences.sum(axis=0))
    # Sums of the same numbers in another order differ in the last digits.
    limit = observed - 1e-9 * numpy.maximum(1.0, numpy.abs(differences).sum(axis=0))
    exceeding = numpy.zeros(comparisons)
    if topics <= _EXACT:
        patterns = (numpy.arange(1 << topics)[:, None] >> numpy.arange(topics)) & 1
        exceeding += (numpy.abs((1 - 2 * patterns) @ differences) >= limit).sum(axis=0)
        return exceeding / (1 << topics)
    draw = numpy.random.default_rng(_SEED)
    size = max(1, _BLOCK // topics)
    for start in range(0, ROUNDS, size):
        signs = 1.0 - 2.0 * draw.integers(0, 2, (min(size, ROUNDS - start), topics), dtype=numpy.int8)
        exceeding += (numpy.abs(signs @ differences) >= limit).sum(axis=0)
    return (exceeding + 1) / (ROUNDS + 1)


def holm(p_values: "Sequence[float] | numpy.ndarray") -> list[float]:
    """Holm's step-down correction: p-values to be compared with one level, in the order given."""
    count = len(p_values)
    result, worst = [0.0] * count, 0.0
    for rank, place in enumerate(sorted(range(count), key=lambda index: p_values[index])):
        worst = max(worst, min(1.0, (count - rank) * float(p_values[place])))
        result[place] = worst
    return result


def bootstrap_intervals(strata: Sequence[numpy.ndarray]) -> tuple[numpy.ndarray, numpy.ndarray]:
    """95 % percentile intervals of means; of several strata (data sets), of the mean of their means.

    :param strata: ``[topics, columns]`` each; topics are drawn again within their stratum, the same for
        every column.
    :return: low and high, ``[columns]``; not a number where a stratum is empty.
    """
    draw = numpy.random.default_rng(_SEED)
    columns = strata[0].shape[1]
    if not all(map(len, strata)):
        return numpy.full(columns, numpy.nan), numpy.full(columns, numpy.nan)
    means = numpy.zeros((ROUNDS, columns))
    for values in strata:
        topics = len(values)
        size = max(1, _BLOCK // topics)
        for start in range(0, ROUNDS, size):
            rows = min(size, ROUNDS - start)
            chosen = draw.integers(0, topics, (rows, topics)) + topics * numpy.arange(rows)[:, None]
            times = numpy.bincount(chosen.ravel(), minlength=rows * topics).reshape(rows, topics)
            means[start : start + rows] += times @ numpy.asarray(values, float) / topics
    low, high = numpy.quantile(means / len(strata), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0)
    return low, high
