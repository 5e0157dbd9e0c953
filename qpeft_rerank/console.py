"""What every command shares: messages on stderr, and one line instead of a traceback."""

import argparse
import io
import json
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, cast

from qpeft_rerank.errors import InputError, first_line

# Most that Lucene and torch take for a count.
_MOST = 2**31 - 1
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class Parser(argparse.ArgumentParser):
    """A command's arguments, whose faults are told as all others: in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong and end with status 2."""
        self.exit(2, f"error: {' '.join(message.split())}\n")


def positive(text: str) -> int:
    """The argparse type of a count: a whole number from 1."""
    return _whole(text, 1)


def from_zero(text: str) -> int:
    """The argparse type of a count that may be none: a whole number from 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
    if value > _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {_MOST:,}")
    return value


def arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command's arguments; an empty one, such as a variable that is not set leaves, is refused.

    The system's names of stdout become ``-``: sent to a file, they would look like that file.
    """
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        if value in _STDOUT:
            setattr(args, name, "-")
        if "" in (value if isinstance(value, list) else [value]):
            parser.error(f"argument --{name.replace('_', '-')}: is empty; give a value, or leave it out")
    return args


def inputs(args: argparse.Namespace, *names: str) -> list[tuple[str, str | None]]:
    """A command's arguments that name what it reads, each with its flag; see :func:`~qpeft_rerank.trec.output.check_output`."""
    return [(f"--{name}", getattr(args, name)) for name in names]


def settings(flag: str, given: Iterable[str]) -> dict[str, Any]:
    """Values given as ``NAME=VALUE``, read as JSON where they are that; of a name given twice the last.

    :raises InputError: for one without a name or a sign of equality.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InputError(f"{flag} {text}: write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def duration(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


class _Outliving:
    """A stream of messages whose reader may go: what is said then is lost, and the work goes on."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            self._stream.write(text)
        except BrokenPipeError:
            self._let_go()
        return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except BrokenPipeError:
            self._let_go()

    def _let_go(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())


@contextmanager
def _outliving() -> Iterator[None]:
    stream = sys.stderr
    if isinstance(stream, io.TextIOWrapper):
        sys.stderr = cast(io.TextIOWrapper, _Outliving(stream))
    try:
        yield
    finally:
        sys.stderr = stream


def say(message: str) -> None:
    """Print one line for the user on stderr, which leaves stdout to runs and tables."""
    print(message, file=sys.stderr, flush=True)


def run(command: Callable[[], int], resumes: bool = False) -> int:
    """Call ``command`` and return its exit status.

    :param resumes: whether the same command goes on where it was stopped, as Ctrl-C then tells.

    :class:`InputError` and the system's refusals become one line and status 2. A reader that closed stdout's pipe is no
    fault (status 0, as ``head`` expects); one that closed that of stderr misses the messages. Ctrl-C ends with 130; what
    was journalled stays.
    """
    if sys.stderr is None:  # closed: print would take stdout for it, and C code the file that is opened next
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # whatever the locale: runs and pages are UTF-8
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    with _outliving():
        return _run(command, resumes)


def _run(command: Callable[[], int], resumes: bool) -> int:
    try:
        return command()
    except InputError as error:
        say(f"error: {error}")
        return 2
    except BrokenPipeError:
        # Python would complain again when it flushes stdout at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a full disk, a folder that may not be read: told with the file's name
        say(
            f"error: {f'{error.filename}: {error.strerror}' if error.filename and error.strerror else first_line(error)}"
        )
        return 2
    except KeyboardInterrupt:
        say(f"interrupted; {'the same command goes on from here' if resumes else 'nothing was kept'}")
        return 130


class _Quiet:
    """Who is within :func:`unwarned`: logging has one switch for the whole process."""

    lock, inside, before = threading.Lock(), 0, 0


_QUIET = _Quiet()


@contextmanager
def unwarned() -> Iterator[None]:
    """No warnings logged within the block: for imports. Where torchao is installed, transformers imports it, and it
    tells about each GPU kernel that this machine has no use for.
    """
    # The first of several threads that are in it at a time finds what the last one restores.
    with _QUIET.lock:
        if not _QUIET.inside:
            _QUIET.before = logging.root.manager.disable
            logging.disable(logging.WARNING)
        _QUIET.inside += 1
    try:
        yield
    finally:
        with _QUIET.lock:
            _QUIET.inside -= 1
            if not _QUIET.inside:
                logging.disable(_QUIET.before)
