"""``python -m qpeft_rerank.evaluate``: measures of one or more TREC runs, as a table."""

import argparse
import csv
import io
import json
import sys
from collections.abc import Sequence

from qpeft_rerank import console
from qpeft_rerank.errors import InputError
from qpeft_rerank.sources import find_topics, named_qrels
from qpeft_rerank.trec.lines import display_name
from qpeft_rerank.trec.measures import Evaluation, evaluate, parse_measure
from qpeft_rerank.trec.output import write_lines
from qpeft_rerank.trec.qrels import Qrels
from qpeft_rerank.trec.runs import read_run

DEFAULT_MEASURES = ("nDCG@10", "R@100", "Success@10")

Table = list[list[str]]
"""Rows of cells; the first row is the header."""


def parser() -> argparse.ArgumentParser:
    """Return the command's argument parser."""
    result = console.Parser(
        prog="python -m qpeft_rerank.evaluate",
        description="Evaluate TREC runs with trec_eval's measures. Topics missing from a run count 0.",
    )
    result.add_argument(
        "--qrels", required=True, metavar="Q", help="qrels file, Pyserini's name for it, or ir_datasets:ID"
    )
    result.add_argument(
        "--run",
        required=True,
        nargs="+",
        action="extend",
        metavar="RUN",
        help="TREC runs, .gz too; - is stdin",
    )
    result.add_argument(
        "--measures",
        nargs="+",
        action="extend",
        metavar="M",
        help="e.g. nDCG@10 R@100 Success@10 (or H@10) RR@10 (or MRR@10) AP P@10 'AP(rel=2)'; "
        f"default: {' '.join(DEFAULT_MEASURES)}",
    )
    result.add_argument(
        "--topics",
        metavar="T",
        help="topics file, Pyserini's name or ir_datasets:ID: average over exactly these topics",
    )
    result.add_argument("--per-topic", action="store_true", help="a row for every topic, then one for all")
    result.add_argument("--format", choices=("text", "csv", "json", "markdown"), default="text", help="default: text")
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status (2 for bad input)."""
    args = console.arguments(parser(), argv)
    return console.run(lambda: _command(args))


def _command(args: argparse.Namespace) -> int:
    # The same measure or file asked twice would only repeat a column or a row.
    measures = list(dict.fromkeys(args.measures or DEFAULT_MEASURES))
    for measure in measures:
        parse_measure(measure)  # before the files, which may be large
    console.check_stdin(args, "qrels", "topics", "run")
    topic_ids = list(find_topics(args.topics)) if args.topics else None
    qrels = named_qrels(args.qrels)
    if topic_ids is not None and qrels.keys().isdisjoint(topic_ids):
        raise InputError(
            f"--topics {args.topics}: none of them is in the qrels (topics: {topic_ids[0]}, qrels: {next(iter(qrels))}); "
            "give the topics of the qrels"
        )
    evaluations: dict[str, Evaluation] = {}
    for path in dict.fromkeys(args.run):
        name = display_name(path)
        evaluations[name] = _evaluate(path, qrels, measures, topic_ids)
        _report(name, evaluations[name])
    if args.format == "json":
        text = _json(args.qrels, evaluations, args.per_topic)
    else:
        table = _table(evaluations, measures, args.per_topic)
        text = {"text": _text, "csv": _csv, "markdown": _markdown}[args.format](table)
    write_lines("-", [text])
    return 0


def _evaluate(path: str, qrels: Qrels, measures: Sequence[str], topic_ids: Sequence[str] | None) -> Evaluation:
    run = read_run(path)
    evaluation = evaluate(run, qrels, measures, topic_ids)
    if qrels.keys().isdisjoint(run):
        raise InputError(
            f"{display_name(path)}: none of its topics is in the qrels (run: {next(iter(run))}, "
            f"qrels: {next(iter(qrels))}); give the qrels of the run's topics"
        )
    return evaluation


def _report(name: str, evaluation: Evaluation) -> None:
    """Tell on stderr which topics count 0 for want of passages or judgements, and how many do not count."""
    counted = next(iter(evaluation.per_topic.values()))
    asked = [topic for topic in evaluation.unjudged if topic in counted]
    for zero, why in ((evaluation.missing, "are not in the run"), (asked, "have no judgements")):
        if zero:
            shown = ", ".join(zero[:5]) + (", ..." if len(zero) > 5 else "")
            console.say(f"{name}: {len(zero)} of {len(counted)} topics {why} and count 0: {shown}")
    if left := len(evaluation.unjudged) - len(asked):
        console.say(f"{name}: {left} topics without judgements do not count")


def _table(evaluations: dict[str, Evaluation], measures: Sequence[str], per_topic: bool) -> Table:
    """Return runs (with ``per_topic``: their topics, then ``all``) by measures, four decimals."""
    if not per_topic:
        rows = [[name, *(f"{found.mean[m]:.4f}" for m in measures)] for name, found in evaluations.items()]
        return [["run", *measures], *rows]
    table: Table = [["run", "topic", *measures]]
    for name, found in evaluations.items():
        for topic in found.per_topic[measures[0]]:
            table.append([name, topic, *(f"{found.per_topic[m][topic]:.4f}" for m in measures)])
        table.append([name, "all", *(f"{found.mean[m]:.4f}" for m in measures)])
    return table


def _text(table: Table) -> str:
    """Align: names to the left, values to the right."""
    widths = [max(len(row[column]) for row in table) for column in range(len(table[0]))]
    names = 2 if table[0][1] == "topic" else 1
    lines = []
    for row in table:
        cells = [
            cell.ljust(width) if column < names else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip() + "\n")
    return "".join(lines)


def _csv(table: Table) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(table)
    return stream.getvalue()


def _markdown(table: Table) -> str:
    names = 2 if table[0][1] == "topic" else 1
    rule = ["---"] * names + ["---:"] * (len(table[0]) - names)
    rows = [[cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in table]
    return "".join(f"| {' | '.join(row)} |\n" for row in [rows[0], rule, *rows[1:]])


def _json(qrels: str, evaluations: dict[str, Evaluation], per_topic: bool) -> str:
    """Full precision, with what the table cannot show."""
    runs = []
    for name, found in evaluations.items():
        entry: dict[str, object] = {
            "run": name,
            "topics": len(next(iter(found.per_topic.values()))),
            "missing": list(found.missing),
            "unjudged": list(found.unjudged),
            "mean": found.mean,
        }
        if per_topic:
            entry["per_topic"] = found.per_topic
        runs.append(entry)
    return json.dumps({"qrels": display_name(qrels), "runs": runs}, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    sys.exit(main())
