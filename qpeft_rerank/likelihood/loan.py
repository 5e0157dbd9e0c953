"""A model that one thread has lent to others, which read batches for it side by side."""

import threading

_own = threading.local()


class LoanEndedError(Exception):
    """Nobody waits for this batch any more."""


class Loan:
    """What the threads that help another one have of it.

    :param lender: what is theirs as long as the loan lasts, whoever else waits for it.
    """

    def __init__(self, lender: object) -> None:
        self.lender = lender
        self.ended = False

    def take(self) -> None:
        """Make this thread one of those that help."""
        _own.loan = self


def is_lent(lender: object) -> bool:
    """Whether this thread works for one that holds a model."""
    loan = getattr(_own, "loan", None)
    return loan is not None and loan.lender is lender


def go_on() -> None:
    """Leave a batch that nobody waits for any more; asked between layers, for one may take a minute.

    :raises LoanEndedError: then.
    """
    loan = getattr(_own, "loan", None)
    if loan is not None and loan.ended:
        raise LoanEndedError
