"""From measures by topic to means, intervals and corrected comparisons, as pandas frames."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import TYPE_CHECKING, Any

import numpy

from eval import significance
from eval.conditions import Condition, by_list
from eval.values import CONVENTIONS, Convention, Values

if TYPE_CHECKING:
    import pandas

#: The row group that averages the data sets, each counting the same.
MEAN = "mean"
LEVEL = 0.05


@dataclass(frozen=True)
class Group:
    """The rows of a table that are compared: one data set and first stage, or the mean of the data sets.

    :param strata: per row, the values of each data set; a plain group has one.
    """

    dataset: str
    title: str
    first_stage: str
    rows: Mapping[str, Condition]
    strata: Mapping[str, Sequence[Values]]


def groups(measured: Mapping[Condition, Values]) -> list[Group]:
    """Group conditions; where several data sets have the same rows, their mean comes last."""
    listed = [
        Group(
            dataset,
            next(iter(rows.values())).dataset.title,
            stage,
            rows,
            {row: [measured[condition]] for row, condition in rows.items()},
        )
        for (dataset, stage), rows in by_list(measured).items()
    ]
    for stage in dict.fromkeys(group.first_stage for group in listed):
        same = [group for group in listed if group.first_stage == stage]
        if len(same) > 1 and all(list(group.rows) == list(same[0].rows) for group in same):
            strata = {row: [group.strata[row][0] for group in same] for row in same[0].rows}
            listed.append(Group(MEAN, "Mean", stage, same[0].rows, strata))
    return listed


def weighted(strata: Sequence[numpy.ndarray]) -> numpy.ndarray:
    """All topics, ``[topics]``, weighted so that their mean is the mean of the strata's means."""
    total = sum(map(len, strata))
    return numpy.concatenate([values * (total / (len(strata) * len(values))) for values in strata if len(values)])


def comparisons(measured: Mapping[Condition, Values], measures: Sequence[str]) -> "pandas.DataFrame":
    """Every pair of rows of a group, by measure and convention; p-values plain and corrected by Holm.

    A family is what is corrected together: one group's comparisons with the first stage on one measure,
    or those between its rerankers.
    """
    import pandas

    records: list[dict[str, Any]] = []
    for group in groups(measured):
        first = [row for row, condition in group.rows.items() if condition.method.kind == "first-stage"]
        rerankers = [row for row in group.rows if row not in first]
        families = {
            "first stage": [(row, base) for base in first for row in rerankers],
            "rerankers": [(later, earlier) for earlier, later in combinations(rerankers, 2)],
        }
        for convention in CONVENTIONS:
            records += _compared(group, convention, measures, families)
    names = ["dataset", "first_stage", "convention", "measure", "family", "row", "against", "difference"]
    return pandas.DataFrame(records, columns=[*names, "t", "t_holm", "randomisation", "randomisation_holm"])


def means(measured: Mapping[Condition, Values], measures: Sequence[str]) -> "pandas.DataFrame":
    """Mean in points with a 95 % bootstrap interval, by group, row, convention and measure."""
    import pandas

    records = []
    for group in groups(measured):
        cells = [(row, measure) for row in group.rows for measure in measures]
        for convention in CONVENTIONS:
            strata = [
                numpy.stack([group.strata[row][place].array(measure, convention) for row, measure in cells], axis=1)
                for place in range(len(next(iter(group.strata.values()))))
            ]
            low, high = significance.bootstrap_intervals(strata)
            # Not a number where a data set has no topic to average.
            mean = numpy.mean([part.sum(axis=0) / (len(part) or numpy.nan) for part in strata], axis=0)
            for place, (row, measure) in enumerate(cells):
                records.append(
                    {
                        "dataset": group.dataset,
                        "dataset_title": group.title,
                        "first_stage": group.first_stage,
                        "row": row,
                        "title": group.rows[row].title,
                        "convention": convention,
                        "measure": measure,
                        "mean": 100 * float(mean[place]),
                        "low": 100 * float(low[place]),
                        "high": 100 * float(high[place]),
                        "topics": sum(map(len, strata)),
                    }
                )
    return pandas.DataFrame(records)


def better(compared: "pandas.DataFrame", family: str, against: str) -> set[tuple[str, str, str, str, str]]:
    """(dataset, first stage, convention, measure, row) that are better by both corrected tests."""
    found = set()
    for pair in compared[compared.family == family].itertuples():
        if pair.t_holm >= LEVEL or pair.randomisation_holm >= LEVEL or against not in (pair.row, pair.against):
            continue
        # A pair is stored once; the reference may be on either side.
        row, gain = (pair.row, pair.difference) if pair.against == against else (pair.against, -pair.difference)
        if gain > 0:
            found.add((pair.dataset, pair.first_stage, pair.convention, pair.measure, row))
    return found


def _joined(strata: Sequence[Values], measure: str, convention: Convention) -> numpy.ndarray:
    arrays = [values.array(measure, convention) for values in strata]
    # Nothing is compared where one of the data sets has no topic, as their mean is no number then.
    return weighted(arrays) if all(map(len, arrays)) else numpy.zeros(0)


def _compared(
    group: Group, convention: Convention, measures: Sequence[str], families: Mapping[str, Sequence[tuple[str, str]]]
) -> list[dict[str, Any]]:
    """One group's comparisons in one convention; the same random signs serve them all."""
    cells = [(measure, family, *pair) for measure in measures for family in families for pair in families[family]]
    if not cells:
        return []
    arrays = {(row, m): _joined(values, m, convention) for row, values in group.strata.items() for m in measures}
    differences = numpy.stack([arrays[row, m] - arrays[against, m] for m, _, row, against in cells], axis=1)
    gains = differences.mean(axis=0) if len(differences) else numpy.full(len(cells), numpy.nan)
    by_t, by_signs = significance.paired_t(differences), significance.randomisation(differences)
    records: list[dict[str, Any]] = []
    start = 0
    for (measure, family), members in groupby(cells, key=lambda cell: cell[:2]):
        part = slice(start, start + len(list(members)))
        t_holm, signs_holm = significance.holm(by_t[part]), significance.holm(by_signs[part])
        for place in range(part.start, part.stop):
            records.append(
                {
                    "dataset": group.dataset,
                    "first_stage": group.first_stage,
                    "convention": convention,
                    "measure": measure,
                    "family": family,
                    "row": cells[place][2],
                    "against": cells[place][3],
                    "difference": 100 * float(gains[place]),
                    "t": float(by_t[place]),
                    "t_holm": t_holm[place - start],
                    "randomisation": float(by_signs[place]),
                    "randomisation_holm": signs_holm[place - start],
                }
            )
        start = part.stop
    return records
