"""Writing a text file whole or not at all."""

import gzip
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import IO

from qpeft_rerank.errors import InputError


def write_lines(path: str, lines: Iterable[str]) -> None:
    """Write ``lines`` (each with its line end) to ``path`` as UTF-8; ``-`` is standard output.

    A regular file appears only when it is complete: a temporary file in the same directory is
    renamed over it, so a reader or a crash never sees half of it. A name that ends in ``.gz`` is
    compressed, the same lines always to the same bytes. :class:`InputError` where the place cannot
    be written.
    """
    if path == "-":
        _check_stdout()
        sys.stdout.writelines(lines)
        sys.stdout.flush()
        return
    try:
        with _replacing(path) as target:
            if path.endswith(".gz"):
                # No name and no time inside: equal runs give equal files.
                with gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0) as packed:
                    packed.writelines(line.encode() for line in lines)
            else:
                target.writelines(line.encode() for line in lines)
    except BrokenPipeError:
        raise  # a closed pipe is no fault; console.run ends quietly
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose another place or create the directory"
        ) from None


def _check_stdout() -> None:
    if sys.stdout is None:
        raise InputError("stdout is closed; name a file")


def check_output(path: str, overwrite: bool, flag: str = "--output") -> None:
    """Refuse an output that exists or cannot be written, before any work is done for it."""
    if path == "-":
        _check_stdout()
        return
    parent = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path):
        raise InputError(f"{flag} {path}: is a folder; name a file in it")
    if os.path.isfile(path) and not overwrite:
        raise InputError(f"{flag} {path}: exists; add --overwrite to replace it, or name another file")
    if os.path.exists(path) and not os.path.isfile(path):
        # A device or a pipe such as /dev/stdout is written to directly.
        if not os.access(path, os.W_OK):
            raise InputError(f"{flag} {path}: cannot be written; name another file")
        return
    if not os.path.isdir(parent):
        raise InputError(f"{flag} {path}: the folder {parent} does not exist; create it first")
    try:
        # Tried, not asked: permissions say nothing of read-only file systems, nor to root.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError:
        raise InputError(f"{flag} {path}: the folder {parent} cannot be written; name another") from None


@contextmanager
def _replacing(path: str) -> Iterator[IO[bytes]]:
    """Give a stream that becomes ``path`` when the block ends well and vanishes otherwise."""
    if os.path.exists(path) and not os.path.isfile(path):
        # /dev/stdout, a named pipe: renaming over it would destroy it. (A directory fails here.)
        with open(path, "wb") as direct:
            yield direct
        return
    final = os.path.realpath(path)  # keep a symbolic link, replace what it points to
    temporary = os.path.join(os.path.dirname(final), f".{os.path.basename(final)}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, final)
    except BaseException:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise
