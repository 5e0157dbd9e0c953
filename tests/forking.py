"""What becomes of a process that is forked."""

import multiprocessing
from collections.abc import Callable


def status_of_fork(work: Callable[[], None]) -> int | None:
    """The exit status of a forked process that does this; None if it had to be stopped."""
    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(30)
    status = child.exitcode
    child.kill()
    child.join()
    return status
