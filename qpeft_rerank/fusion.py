"""How a topic's new ranking is put together from first-stage and LLM scores."""

from collections.abc import Sequence
from numbers import Real

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.runs import trec_order


def check_alpha(alpha: float) -> None:
    """Refuse a weight of the likelihood that is none."""
    if not isinstance(alpha, Real) or not 0.0 <= alpha <= 1.0:
        raise InputError(f"--alpha {alpha}: give a number from 0 (first stage only) to 1 (likelihood only)")


def min_max(values: Sequence[float]) -> list[float]:
    """Values moved to [0, 1] within their topic; all equal ones become 0."""
    low, high = min(values), max(values)
    spread = high - low
    return [(value - low) / spread if spread else 0.0 for value in values]


def interpolate(likelihood: Sequence[float], first_stage: Sequence[float], alpha: float) -> list[float]:
    """``alpha * likelihood + (1 - alpha) * first_stage``, both min-max-normalised over the topic.

    ``alpha`` 1 returns the log-likelihoods as they are, in nats.
    """
    if alpha == 1.0 or not likelihood:
        return list(likelihood)
    pairs = zip(min_max(likelihood), min_max(first_stage), strict=True)
    return [alpha * new + (1 - alpha) * old for new, old in pairs]


def with_tail(head: Sequence[tuple[str, float]], tail: Sequence[str]) -> list[tuple[str, float]]:
    """The reranked head in trec_eval's order, then the tail in the order given.

    The tail's scores go down by whole units from below the head's lowest, so that float32, in which
    trec_eval keeps scores, tells them apart.
    """
    ranked = trec_order(head)
    floor = ranked[-1][1] if ranked else 0.0
    return ranked + [(docid, floor - place) for place, docid in enumerate(tail, 1)]
