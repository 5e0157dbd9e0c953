"""How a training ends: with weights, or with a number that is none."""

from dataclasses import dataclass

from qpeft_rerank.errors import InputError


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training came to.

    :param epoch: the epoch whose weights the student has now.
    :param dev: dev metric by epoch, the first before any training; empty without a dev set.
    :param steps: optimizer steps done.
    """

    epoch: int
    dev: tuple[float, ...]
    steps: int
    early: bool


class Diverged(InputError):
    """The loss or its gradient is no number any more.

    :param best: the best epoch before, 0 if there is none.
    :param whole: whether the weights are those of the last good step.
    """

    def __init__(self, message: str, best: int, whole: bool = False) -> None:
        super().__init__(message)
        self.best = best
        self.whole = whole
