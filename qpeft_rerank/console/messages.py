"""What a command says on stderr, and how it ends: one line instead of a traceback."""

import io
import os
import sys
from collections.abc import Callable

from qpeft_rerank.console.outliving import outliving
from qpeft_rerank.errors import InputError, first_line


def duration(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


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
    with outliving():
        try:
            return _run(command, resumes)
        finally:
            _let_go_of_stdout()


def _run(command: Callable[[], int], resumes: bool) -> int:
    try:
        status = command()
        if sys.stdout is not None:
            sys.stdout.flush()  # what it does not take is told here, not by Python at exit
        return status
    except InputError as error:
        say(f"error: {error}")
        return 2
    except BrokenPipeError:
        return 0
    except OSError as error:  # a full disk, a folder that may not be read: told with the file's name
        say(
            f"error: {f'{error.filename}: {error.strerror}' if error.filename and error.strerror else first_line(error)}"
        )
        return 2
    except KeyboardInterrupt:
        say(f"interrupted; {'the same command goes on from here' if resumes else 'nothing was kept'}")
        return 130


def _let_go_of_stdout() -> None:
    """Drop what stdout does not take: Python would complain of it again at exit, with a status of its own."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
