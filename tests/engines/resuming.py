"""A run that is stopped again and again."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qpeft_rerank.likelihood.journal import Journal

NEVER = 10**9


def until_done(
    path: Path, stops: Iterable[int], start: Callable[[Journal, int], tuple[Any, Callable[[], list]]]
) -> tuple[list, int]:
    """Run with one journal until nothing stops it any more; return the scores and the batches that it took in all.

    :param stops: after how many batches each attempt dies.
    :param start: takes the journal and one of them; gives what counts the batches, and what scores.
    """
    batches = 0
    for dies_after in [*stops, NEVER]:
        with Journal(path) as journal:
            counting, score = start(journal, dies_after)
            try:
                return score(), batches + counting.batches
            except KeyboardInterrupt:
                batches += counting.batches
    raise AssertionError("the last attempt was stopped, too")
