"""Batches that several threads score at the same time, each with few processors.

Many threads for one batch wait for each other after each of its thousand operations, of which some, such as attention over
a few short rows, are too small to be divided. Batches need nothing of each other.
"""

from collections import deque
from collections.abc import Callable, Generator
from collections.abc import Sequence as ListLike
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from qpeft_rerank.likelihood.causal_model import CausalModel

_Made = TypeVar("_Made")

# Batches at the same time, at the most: each takes memory of its own.
_MOST = 4
# Batches to a worker, at least: the last ones leave workers with nothing to do.
_EACH = 2
# Batches to a worker that are begun and not yet asked for; with one, all would wait for the slowest.
_AHEAD = 2


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
    """
    threads = torch.get_num_threads()
    workers, each = division(threads)
    if model is None or workers == 1 or batches < workers * _EACH or not works:
        for work in works:
            yield work()
        return
    with model.lent() as loan:

        def begin() -> None:
            loan.take()
            torch.set_num_threads(each)

        pool = ThreadPoolExecutor(workers, "scoring", begin)
        try:
            begun: deque[Future[_Made]] = deque()
            for work in works:
                if len(begun) == workers * _AHEAD:
                    yield begun.popleft().result()
                begun.append(pool.submit(work))
            while begun:
                yield begun.popleft().result()
        finally:
            loan.ended = True
            pool.shutdown(cancel_futures=True)
            # PyTorch takes the latest number for that of threads which are still to come.
            torch.set_num_threads(threads)
