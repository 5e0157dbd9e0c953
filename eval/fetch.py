"""A file from the web, whole or not at all: ``python -m eval.fetch URL --output FILE``."""

import argparse
import errno
import os
import shutil
import sys
import urllib.request
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path

from qpeft_rerank import console
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.output import check_output

# What a disk says that has no more room, to this user at least: no network does.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(prog="python -m eval.fetch", description="Download one file.")
    parser.add_argument("address", metavar="URL", help="where it is")
    parser.add_argument("--output", required=True, metavar="FILE", help="where it goes")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _fetch(args))


def _fetch(args: argparse.Namespace) -> int:
    check_output(args.output, args.overwrite)
    output = Path(args.output)
    part = output.with_name(f".{output.name}.part")
    try:
        with urllib.request.urlopen(args.address, timeout=60) as answer, part.open("wb") as file:
            shutil.copyfileobj(answer, file, 1 << 20)
            file.flush()
            size = answer.headers.get("Content-Length")
            if size is not None and file.tell() != int(size):
                raise InputError(f"{args.address}: ended after {file.tell():,} of {int(size):,} bytes; try again")
        os.replace(part, output)
    except (OSError, ValueError, HTTPException) as error:
        if isinstance(error, OSError) and error.errno in _FULL:
            raise InputError(f"{output}: cannot be written ({error.strerror}); free some space and try again") from None
        reason = getattr(error, "reason", None) or error
        raise InputError(
            f"{args.address}: cannot be fetched ({reason}); check the network, or put the file into --data by hand"
        ) from None
    finally:
        part.unlink(missing_ok=True)
    console.say(f"wrote {output} ({output.stat().st_size:,} bytes)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
