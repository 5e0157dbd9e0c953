"""The speed benchmark: ``python -m eval.benchmarks.speed --data DIR``."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from eval.benchmarks import contestants, machine
from eval.benchmarks.command import publish
from eval.benchmarks.contestants import Contestant
from eval.benchmarks.measurements import Measurements
from eval.benchmarks.plots import AXES
from eval.benchmarks.workloads import NAMES
from qpeft_rerank import console
from qpeft_rerank.errors import InputError


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m eval.benchmarks.speed",
        description="Measure scoring beside other tools' ways to compute the same scores. Each measurement has a "
        "process of its own; stopped and started again, it goes on where it was.",
        epilog="Expect, with the defaults, the embedded model and one thread of a 4 GHz processor with AVX-512, about "
        "8 minutes a repeat, so 40 in all; --scaling about as long, --overheads 10 minutes.",
    )
    parser.add_argument("--data", required=True, metavar="DIR", help="the folder that holds dl19/ and miniwiki/")
    parser.add_argument("--index", metavar="DIR", help="Lucene index of miniwiki's passages (default: built once)")
    parser.add_argument("--model", default="embedded", metavar="NAME", help="hub name, folder, GGUF or 'embedded'")
    parser.add_argument("--pairs", type=console.positive, default=32, metavar="N", help="pairs a workload, about (32)")
    parser.add_argument("--repeats", type=console.positive, default=5, metavar="N", help="measurements a row (5)")
    parser.add_argument("--threads", type=console.positive, nargs="+", default=[1], metavar="N", help="threads (1)")
    parser.add_argument("--workloads", nargs="+", default=list(NAMES), metavar="W", help=", ".join(NAMES))
    parser.add_argument("--rows", nargs="+", metavar="R", help="rows of the table (all)")
    parser.add_argument(
        "--packages", metavar="PYTHON", help="a Python that has rerankers, llm-rankers, llama-cpp-python"
    )
    parser.add_argument("--seed", type=int, default=42, help="of the samples (42)")
    parser.add_argument("--scaling", action="store_true", help="measure how cost grows, and plot it, instead")
    parser.add_argument("--curves", nargs="+", choices=list(AXES), metavar="C", help=f"of --scaling: {', '.join(AXES)}")
    parser.add_argument("--overheads", action="store_true", help="measure what is not scoring, instead")
    parser.add_argument("--large", action="store_true", help="with --scaling: up to a billion parameters")
    parser.add_argument(
        "--output", default="speed.md", metavar="F.md", help="report; F.json beside it keeps all (speed.md)"
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _speed(args), resumes=True)


def _speed(args: argparse.Namespace) -> int:
    from qpeft_rerank.trec.output import check_output

    rows = contestants.choose(args.rows)
    if unknown := [name for name in args.workloads if name not in NAMES]:
        raise InputError(f"--workloads {unknown[0]}: there are {', '.join(NAMES)}")
    nowhere = [row.name for row in rows if not set(row.workloads) & set(args.workloads)]
    if args.rows and nowhere and not (args.scaling or args.overheads):
        raise InputError(f"--rows {nowhere[0]}: is measured on none of --workloads {' '.join(args.workloads)}")
    if args.curves and not args.scaling:
        raise InputError("--curves: are those of --scaling; add it")
    if not args.output.endswith(".md"):
        raise InputError(f"--output {args.output}: give a name that ends in .md")
    if not Path(args.data).is_dir():
        raise InputError(f"--data {args.data}: no such folder")
    check_output(args.output, overwrite=True)
    kept = Measurements(Path(args.output).with_suffix(".json"), machine.describe())
    console.say(f"{machine.sentence(kept.machine)}; {', '.join(map(str, args.threads))} threads")
    with tempfile.TemporaryDirectory(prefix="speed.") as folder:
        if args.scaling or args.overheads:
            from eval.benchmarks.growth import growth

            lines = growth(args, kept, Path(folder))
        else:
            lines = _table(args, rows, kept, Path(folder))
    publish(args.output, lines)
    return 0


def _table(args: argparse.Namespace, rows: list[Contestant], kept: Measurements, folder: Path) -> list[str]:
    from eval.benchmarks import table
    from eval.benchmarks.first_stage import prepared
    from eval.benchmarks.rounds import Plan, Rounds

    plan = Plan(args.model, prepared(args, folder), rows, args.threads, args.repeats, args.packages)
    for line in plan.lines():
        console.say(line)
    results = Rounds(plan, kept).run()
    return list(table.render(results, machine.sentence(kept.machine), plan.prepared["model"], args.repeats))


if __name__ == "__main__":
    sys.exit(main())
