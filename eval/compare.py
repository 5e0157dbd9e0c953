"""Test runs against one of them: ``python -m eval.compare --qrels Q.txt --baseline ql.trec --run bm25.trec a.trec``."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qpeft_rerank import console
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.measures import evaluate, parse_measure
from qpeft_rerank.trec.qrels import read_qrels
from qpeft_rerank.trec.runs import read_run

if TYPE_CHECKING:
    import numpy

DEFAULT_MEASURES = ["R@10", "H@10", "MRR@10"]
_ALL = "all"


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m eval.compare",
        description="Means of several runs with paired t-tests against one of them, as a Markdown table. With "
        "--sets, topics named 'nq:12' belong to the set nq: each set gets its rows, and so does the mean of the sets.",
    )
    parser.add_argument("--qrels", required=True, metavar="FILE", help="judgments; topics that a run lacks count 0")
    parser.add_argument("--run", required=True, nargs="+", action="extend", metavar="FILE", help="runs, or NAME=FILE")
    parser.add_argument("--baseline", required=True, metavar="FILE", help="the run that the others are tested against")
    parser.add_argument("--measures", nargs="+", metavar="M", default=DEFAULT_MEASURES, help="R@10 H@10 MRR@10")
    parser.add_argument("--sets", action="store_true", help="the part of a topic's id before ':' is its data set")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _compare(args))


def _compare(args: argparse.Namespace) -> int:
    for measure in args.measures:
        parse_measure(measure)
    qrels = read_qrels(args.qrels)
    values: dict[str, Mapping[str, Mapping[str, float]]] = {}
    for given in [args.baseline, *args.run]:
        name, path = _named(given)
        run = read_run(path)
        if qrels.keys().isdisjoint(run):
            raise InputError(f"{path}: none of its topics is in {args.qrels}; give the qrels of the run")
        if name in values:
            raise InputError(f"{name} is named twice; write NAME=FILE to tell runs apart")
        values[name] = evaluate(
            {topic: {hit.docid: hit.score for hit in hits} for topic, hits in run.items()}, qrels, args.measures
        ).per_topic
    for line in _table(_sets(qrels, args.sets), values, args.measures):
        print(line)
    return 0


def _named(given: str) -> tuple[str, str]:
    """Name and path of ``NAME=FILE``; a file is its own name, also where its path has ``=`` in it."""
    name, equals, path = given.partition("=")
    return (name, path) if equals and not Path(given).exists() else (given, given)


def _sets(topics: Sequence[str] | Mapping[str, object], named: bool) -> dict[str, list[str]]:
    """Topics by data set, in their order."""
    if not named:
        return {_ALL: list(topics)}
    sets: dict[str, list[str]] = {}
    for topic in topics:
        name, colon, _ = topic.partition(":")
        if not colon:
            raise InputError(f"--sets: topic {topic} names no set; ids are to be like nq:{topic}, or leave --sets out")
        sets.setdefault(name, []).append(topic)
    return sets


def _table(
    sets: Mapping[str, Sequence[str]],
    values: Mapping[str, Mapping[str, Mapping[str, float]]],
    measures: Sequence[str],
) -> list[str]:
    """Lines of the table; the baseline comes first and has no p-values."""
    import numpy

    from eval.significance import paired_t
    from eval.tables import MARKDOWN, p_value

    baseline = next(iter(values))
    lines = [
        "| set | topics | run | " + " | ".join(f"{measure} | diff | p" for measure in measures) + " |",
        "|---|---:|---|" + "---:|" * (3 * len(measures)),
    ]
    rows = [(name, [topics]) for name, topics in sets.items()]
    if len(sets) > 1:
        rows.append(("mean", list(sets.values())))
    for name, strata in rows:
        for run, found in values.items():
            cells = [MARKDOWN.plain(name), f"{sum(map(len, strata)):,}", MARKDOWN.plain(run)]
            for measure in measures:
                mine, theirs = (_weighted(strata, of[measure]) for of in (found, values[baseline]))
                cells.append(f"{100 * mine.mean():.2f}")
                if run == baseline:
                    cells += ["", ""]
                    continue
                differences = (mine - theirs)[:, None]
                cells += [f"{100 * differences.mean():+.2f}", p_value(numpy.ravel(paired_t(differences))[0])]
            lines.append("| " + " | ".join(cells) + " |")
    return lines


def _weighted(strata: Sequence[Sequence[str]], of: Mapping[str, float]) -> "numpy.ndarray":
    """A value for each topic, weighted so that sets count the same however many topics they have."""
    import numpy

    from eval.results import weighted

    return weighted([numpy.array([of[topic] for topic in topics]) for topics in strata])


if __name__ == "__main__":
    sys.exit(main())
