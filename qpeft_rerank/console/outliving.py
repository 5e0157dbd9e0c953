"""A stderr that outlives its reader."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast


class Outliving:
    """A stream of messages that may be taken no more, by a reader or a disk: they are lost then, and the work goes on."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except OSError:
            self._let_go()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._let_go()

    def _let_go(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def outliving() -> Iterator[None]:
    """Within the block, stderr is such a stream."""
    stream = sys.stderr
    if isinstance(stream, io.TextIOWrapper):
        sys.stderr = cast(io.TextIOWrapper, Outliving(stream))
    try:
        yield
    finally:
        sys.stderr = stream
