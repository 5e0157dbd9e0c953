"""Batches that several threads score at the same time, each with few processors.

Many threads for one batch wait for each other after each of its thousand operations, of which some, such as attention over
a few short rows, are too small to be divided. Batches need nothing of each other.
"""

import os
from collections import deque
from collections.abc import Callable, Generator
from collections.abc import Sequence as ListLike
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Barrier, Lock
from typing import TypeVar

import torch

from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.likelihood.loan import Loan
from qpeft_rerank.likelihood.out_of_memory import NoRoomError

_Made = TypeVar("_Made")

# Batches at the same time, at the most: each takes memory of its own.
_MOST = 4
# Batches to a worker, at least: the last ones leave workers with nothing to do.
_EACH = 2
# Batches to a worker that are begun and not yet asked for; with one, all would wait for the slowest.
_AHEAD = 2
# OpenMP's switches that bind its threads to processors, and what says that they do not. The thread that loads PyTorch is
# bound to one processor then, and with it all threads that it starts.
_BINDING = ("OMP_PROC_BIND", "OMP_PLACES", "GOMP_CPU_AFFINITY", "KMP_AFFINITY")
_UNBOUND = ("", "false", "none", "disabled")
# Held where the process's number of threads, which a thread takes when it first asks, is not the one that was given.
_counting = Lock()


def division(threads: int) -> tuple[int, int]:
    """How many batches are scored at the same time, and by how many threads each."""
    each = -(-threads // _MOST)
    return threads // each, each


def in_order(
    works: ListLike[Callable[[], _Made]], model: CausalModel | None, batches: int
) -> Generator[_Made, None, None]:
    """What each of these makes, in their order; several are at work where that is worth it.

    How a score rounds depends on the threads that its batch has, so that nothing but ``batches`` decides about them.

    :param works: each reads one batch.
    :param model: what they read with; other threads than theirs wait for it until all is made, or this is closed. None
        where only one batch may be read at a time.
    :param batches: that there were at first, those done by an earlier run included.
    :raises NoRoomError: where a work does, while no other is at work.
    """
    with _counting:
        threads = torch.get_num_threads()
    workers, each = division(threads)
    if model is None or workers == 1 or batches < workers * _EACH or not works or _bound():
        for work in works:
            yield work()
        return
    with model.lent() as loan:
        pool = ThreadPoolExecutor(workers, "scoring")
        try:
            _begin(pool, loan, workers, each)
            begun: deque[tuple[Callable[[], _Made], Future[_Made]]] = deque()
            for work in works:
                if len(begun) == workers * _AHEAD:
                    yield _made(pool, begun)
                begun.append((work, pool.submit(work)))
            while begun:
                yield _made(pool, begun)
        finally:
            loan.ended = True
            pool.shutdown(cancel_futures=True)


def _bound() -> bool:
    return any(os.environ.get(switch, "").lower() not in _UNBOUND for switch in _BINDING)


def _begin(pool: ThreadPoolExecutor, loan: Loan, workers: int, each: int) -> None:
    """Start the threads that help, each with its number of processors."""
    threads = torch.get_num_threads()
    together = Barrier(workers)

    def begin() -> None:
        loan.take()
        torch.get_num_threads()  # or the first operation would take the process's number
        torch.set_num_threads(each)
        together.wait()  # no thread begins for two

    with _counting:
        try:
            for started in [pool.submit(begin) for _ in range(workers)]:
                started.result()
        finally:
            together.abort()  # where one cannot be started, the others are not to wait for it
            # PyTorch takes the latest number for that of threads which are still to come, whoever starts them.
            torch.set_num_threads(threads)


def _made(pool: ThreadPoolExecutor, begun: deque[tuple[Callable[[], _Made], Future[_Made]]]) -> _Made:
    """What the first of these makes; where it finds no room beside the others, it is read again when they are done."""
    work, future = begun.popleft()
    try:
        return future.result()
    except NoRoomError:
        wait([other for _, other in begun])
        return pool.submit(work).result()
