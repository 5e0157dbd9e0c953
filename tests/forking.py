"""What becomes of a process that is forked."""

import multiprocessing
import os
from collections.abc import Callable

import pytest

# Without a fork, as on Windows, no process can be left without the threads of the one that it comes from.
forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system forks no processes")


def status_of_fork(work: Callable[[], None]) -> int | None:
    """The exit status of a forked process that does this; None if it had to be stopped."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    status = child.exitcode
    child.kill()
    child.join()
    return status
