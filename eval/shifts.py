"""What methods change in a model's scores: ``python -m eval.shifts --table methods --scale mini --data DIR``.

A method's *shift* of a candidate is the log P(query | passage) it gives, less what the model alone gives, in nats. Within
each topic it is compared with the first stage's scores (does the method bring word overlap?), with the model's own
(does it sharpen or flatten them?) and with the judgements (does it lift relevant passages?).
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from eval import selection
from eval.conditions import Condition
from eval.design import Method
from eval.records import known
from eval.store import Store
from qpeft_rerank import console
from qpeft_rerank.errors import InputError

if TYPE_CHECKING:
    import numpy
    import pandas

    from eval.mixing import Scored

#: What a topic's shifts are compared with.
COLUMNS = ("With first stage", "With the model", "For relevant, nats")


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m eval.shifts",
        description="Compare what finished methods change in the model's scores with the first stage's scores, with the "
        "model's own, and with the judgements. Runs no model.",
    )
    what = selection.add_what(parser)
    what.add_argument("--against", default="zero-shot", metavar="M", help="the model alone (zero-shot)")
    selection.add_results(selection.add_where(parser), "shifts")
    selection.add_size(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _compare(args))


def _compare(args: argparse.Namespace) -> int:
    selected = selection.select(args)
    rerankers = [name for name, method in selected.matrix.methods.items() if method.kind != "first-stage"]
    known("--against", "reranker", [args.against], rerankers)
    chain, store = selection.chain_of(args, selected), Store(args.work)
    pairs = []
    for condition in (one for one in selected.conditions if one.method.kind != "first-stage"):
        base = _alone(condition, selected.matrix.methods[args.against])
        if condition.method.name == args.against:
            continue
        for one in (base, condition):
            if not store.is_done(chain.evaluation(one)):
                raise InputError(f"{one.name}: not finished; run it with python -m eval.reproduce and these options")
        pairs.append((base, condition))
    if not pairs:
        raise InputError("nothing to compare: only first stages and the model alone were asked for")
    from eval.mixing import scored_of
    from eval.tables import markdown, results_folder
    from qpeft_rerank.trec.output import write_lines

    rows = [(one, shifts(scored_of(base, chain, store), scored_of(one, chain, store))) for base, one in pairs]
    folder = results_folder(args.results or args.work / "results" / selected.scale.name / "shifts")
    text = f"{markdown(summary(rows))}\n{_CAPTION}\n"
    write_lines(str(folder / "table.md"), [f"# What methods change in the model's scores\n\n{text}"])
    print(text)
    console.say(f"wrote {folder}")
    return 0


def _alone(condition: Condition, method: Method) -> Condition:
    """What a condition is compared with: another setting makes another method, but another model has scores of its own."""
    varied = (condition.setting, condition.value) if condition.setting == "model" else ()
    return Condition(condition.dataset, condition.first_stage, method, *varied)


def shifts(base: "Scored", method: "Scored") -> "numpy.ndarray":
    """What a method changes, topic by topic: ``[topics, 3]``, as :data:`COLUMNS` names it.

    Rank correlations (Spearman) of the shifts with the first stage's scores and with the model's, and the mean shift
    of relevant candidates less that of the others. Topics whose candidates are all relevant, or none, or all alike in
    one of these, are left out.
    """
    import numpy

    return numpy.array(list(_by_topic(base, method)), float).reshape(-1, len(COLUMNS))


def _by_topic(base: "Scored", method: "Scored") -> Iterator[tuple[float, float, float]]:
    import numpy
    from scipy import stats

    for topic in base.topics:
        hits, grades = base.first.get(topic, []), base.qrels[topic]
        alone = numpy.array([base.likelihood[topic][hit.docid] for hit in hits])
        shift = numpy.array([method.likelihood[topic][hit.docid] for hit in hits]) - alone
        first = numpy.array([hit.score for hit in hits])
        relevant = numpy.array([grades.get(hit.docid, 0) > 0 for hit in hits])
        if relevant.all() or not relevant.any() or any(numpy.ptp(of) == 0 for of in (alone, shift, first)):
            continue
        lift = shift[relevant].mean() - shift[~relevant].mean()
        yield stats.spearmanr(shift, first).statistic, stats.spearmanr(shift, alone).statistic, lift


def summary(rows: "Sequence[tuple[Condition, numpy.ndarray]]") -> "pandas.DataFrame":
    """A row of strings a method and data set, then each method's mean over the data sets, with all their topics.

    Of several first stages each has rows and means of its own.
    """
    import pandas

    several = len({one.first_stage.name for one, _ in rows}) > 1
    records: list[dict[str, str]] = []
    kinds: dict[tuple[str, str], tuple[dict[str, str], list[numpy.ndarray]]] = {}
    for one, found in rows:
        stage = {"First stage": one.first_stage.title} if several else {}
        kinds.setdefault((one.first_stage.name, one.row), ({**stage, "Method": one.title}, []))[1].append(found)
        records.append({"Data": one.dataset.title, **stage, "Method": one.title, **_record([found])})
    if len(rows) > len(kinds):
        for said, sets in kinds.values():
            records.append({"Data": "Mean", **said, **_record(sets)})
    return pandas.DataFrame(records)


def _record(found: "Sequence[numpy.ndarray]") -> dict[str, str]:
    """Means of the data sets' means, and p of a t-test of the lift against none, in which sets count alike, too."""
    import numpy

    from eval.results import weighted
    from eval.significance import paired_t
    from eval.tables import p_value

    some = [of for of in found if len(of)]
    topics = sum(map(len, some))
    record: dict[str, str] = {}
    means = numpy.mean([of.mean(axis=0) for of in some], axis=0) if some else None
    for place, column in enumerate(COLUMNS):
        record[column] = "–" if means is None else f"{means[place]:+.2f}"
    record["p"] = "–"
    if topics > 1:
        lifts = weighted([of[:, 2] for of in some])
        record["p"] = p_value(float(paired_t(lifts[:, None])[0]))
    return record | {"Topics": str(topics)}


_CAPTION = (
    "A shift is what a method gives a candidate in log P(query | passage), less what the model alone gives. Rank "
    "correlations of the shifts within a topic with the first stage's scores and with the model's own; the mean shift of "
    "relevant candidates less that of the others (p: t-test over topics that it is none, uncorrected). Means over the "
    "topics with relevant and other candidates; of data sets, means of their means."
)


if __name__ == "__main__":
    sys.exit(main())
