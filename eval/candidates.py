"""The candidates of a run made elsewhere: ``python -m eval.candidates --run F --topics T --depth 100 --output O``."""

import argparse
import sys
from collections.abc import Sequence

from qpeft_rerank import console
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.output import check_output
from qpeft_rerank.trec.runs import Run, read_run, write_run
from qpeft_rerank.trec.topics import read_topics


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m eval.candidates",
        description="Cut a TREC run to some topics and a depth, and check that it covers them.",
    )
    parser.add_argument("--run", required=True, metavar="FILE", help="TREC run, .gz too")
    parser.add_argument("--topics", required=True, metavar="FILE", help="the topics to keep")
    parser.add_argument("--depth", type=console.positive, default=100, metavar="N", help="passages a topic (100)")
    parser.add_argument("--output", required=True, metavar="FILE", help="run to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _candidates(args))


def _candidates(args: argparse.Namespace) -> int:
    check_output(args.output, args.overwrite, inputs=console.inputs(args, "run", "topics"))
    topics, run = read_topics(args.topics), read_run(args.run)
    kept: Run = {topic: run[topic][: args.depth] for topic in topics if topic in run}
    if not kept:
        raise InputError(
            f"{args.run}: none of its topics (first: {next(iter(run))}) is among those of {args.topics} "
            f"(first: {next(iter(topics))}); give the run of these topics"
        )
    most = max(map(len, kept.values()))
    if most < args.depth:
        raise InputError(f"{args.run}: has {most} passages a topic at most, --depth asks {args.depth}; lower --depth")
    short = [topic for topic, hits in kept.items() if len(hits) < args.depth]
    if short:
        console.say(f"{len(short):,} topics have fewer than {args.depth} passages (first: {short[0]})")
    if len(kept) < len(topics):
        console.say(f"{len(topics) - len(kept):,} topics are not in the run and count 0")
    write_run(args.output, kept, "candidates")
    return 0


if __name__ == "__main__":
    sys.exit(main())
