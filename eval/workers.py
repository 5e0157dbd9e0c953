"""Several things at a time, each as soon as what it needs is done."""

import contextlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import TypeVar

from qpeft_rerank.neighbours import processors

T = TypeVar("T")
_CONTAINER = Path("/sys/fs/cgroup/memory.max")


def each(
    tasks: Mapping[str, T],
    needs: Callable[[T], Iterable[str]],
    act: Callable[[T], object],
    jobs: int,
    stop: Callable[[], object],
) -> None:
    """Call ``act`` for every task, ``jobs`` at a time, in the order given wherever needs allow it.

    :param needs: the names of tasks that come before one; those that are no task here count as done.
    :param stop: called when a task has failed: it makes the others that are under way end soon. The first
        task's error is raised.
    """
    waiting, running = dict(tasks), dict[Future[object], str]()
    with ThreadPoolExecutor(jobs) as pool:
        try:
            while waiting or running:
                unfinished = {*waiting, *running.values()}
                ready = [name for name, task in waiting.items() if unfinished.isdisjoint(needs(task))]
                for name in ready[: jobs - len(running)]:
                    running[pool.submit(act, waiting.pop(name))] = name
                for ended in wait(running, return_when=FIRST_COMPLETED).done:
                    del running[ended]
                    ended.result()
        except BaseException:
            stop()
            raise


def as_many(memory: float) -> int:
    """How many commands fit on this machine, or into its container, a processor each.

    :param memory: bytes that one takes at most.
    """
    try:
        whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError, AttributeError):  # not on Windows
        return 1
    with contextlib.suppress(OSError, ValueError):  # "max", or no control groups
        whole = min(whole, int(_CONTAINER.read_text("ascii")))
    return max(1, min(processors(), int(whole / memory)))
