"""What the benchmarks that run in one process share: their common options, and where their report goes."""

import argparse
import sys
from collections.abc import Iterable

from qpeft_rerank import console


def options(name: str, description: str, data: str | None = None) -> argparse.ArgumentParser:
    """A parser with the options that all take.

    :param name: of the module, and of its report.
    :param data: what ``--data`` must hold; None for a command without it.
    """
    parser = console.Parser(prog=f"python -m eval.benchmarks.{name}", description=description)
    if data is not None:
        parser.add_argument("--data", required=True, metavar="DIR", help=f"the folder that holds {data}")
    parser.add_argument("--model", default="embedded", metavar="NAME", help="hub name, folder, GGUF or 'embedded'")
    parser.add_argument("--threads", type=console.positive, default=1, metavar="N", help="threads (1)")
    parser.add_argument("--output", default=f"{name}.md", metavar="F.md", help=f"report ({name}.md)")
    return parser


def begin(args: argparse.Namespace) -> None:
    """Refuse an output that cannot be written, and take so many threads."""
    import torch

    from qpeft_rerank.trec.output import check_output

    check_output(args.output, overwrite=True)
    torch.set_num_threads(args.threads)


def about(threads: int) -> str:
    """What was measured on, as a report's first line."""
    from eval.benchmarks import machine

    return f"{machine.sentence(machine.describe())}. Threads: {threads}."


def publish(output: str, lines: Iterable[str]) -> None:
    """Write a report to its file and to stdout.

    :param lines: without their ends.
    """
    from qpeft_rerank.trec.output import write_lines

    text = [f"{line}\n" for line in lines]
    write_lines(output, text)
    sys.stdout.writelines(text)
