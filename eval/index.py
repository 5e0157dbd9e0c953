"""A Lucene index of a passage file: ``python -m eval.index --corpus corpus.jsonl --output DIR``."""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from qpeft_rerank import console
from qpeft_rerank.errors import InputError


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(prog="python -m eval.index", description="Index a passage file with Lucene.")
    parser.add_argument("--corpus", required=True, metavar="FILE", help='JSONL, {"id", "contents"} a line')
    parser.add_argument("--output", required=True, metavar="DIR", help="the index; one that exists is left as it is")
    parser.add_argument("--threads", type=console.positive, default=1, metavar="N", help="indexing threads (1)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _index(args))


def _index(args: argparse.Namespace) -> int:
    from qpeft_rerank.collection.building import build_index

    corpus = Path(args.corpus)
    if not corpus.is_file():
        raise InputError(f"--corpus {corpus}: no such file")
    # The indexer takes every file of a folder, and beside the passages may be topics.
    with tempfile.TemporaryDirectory() as alone:
        (Path(alone) / "corpus.jsonl").symlink_to(corpus.resolve())
        build_index(Path(alone), Path(args.output), args.threads)
    console.say(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
