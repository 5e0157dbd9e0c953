"""A run that is stopped again and again."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.scorer import Scorer

NEVER = 10**9


class Dying(Methods):
    """Counts the batches that it scores, and may die after some."""

    def __init__(self, scorers: list[Scorer], mode: str = "auto", dies_after: int = NEVER) -> None:
        super().__init__(scorers, mode)
        self.dies_after, self.batches = dies_after, 0

    def score(self, batch, sequences):
        if self.batches == self.dies_after:
            raise KeyboardInterrupt
        self.batches += 1
        return super().score(batch, sequences)


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
