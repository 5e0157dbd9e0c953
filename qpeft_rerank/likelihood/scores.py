"""The score of one candidate, and what was scored."""

from dataclasses import dataclass

#: Raised when the same inputs give other scores than before: what holds such scores, a journal or a table's step, must
#: then not be reused. It stands here, as :mod:`eval.steps` reads it where nobody has waited for torch.
FORMAT = 7


@dataclass(frozen=True, slots=True)
class Score:
    """Log-probability of a target given everything before it.

    :param total: sum over the scored tokens, in nats (UPR's score).
    :param tokens: number of scored tokens; the same for all passages of a topic.
    :param truncated: whether the passage's end was cut to fit.
    """

    total: float
    tokens: int
    truncated: bool = False

    @property
    def mean(self) -> float:
        """Nats per token (Q-PEFT's score, section 3.4 of the method)."""
        return self.total / self.tokens
