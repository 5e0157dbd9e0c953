"""How far a row's scores and rankings are from the yardstick's."""

from collections.abc import Iterable
from collections.abc import Sequence as ListLike


def largest_gap(scores: ListLike[float], reference: ListLike[float], tokens: ListLike[int]) -> float:
    """The largest absolute difference, in nats per scored token."""
    return max(abs(a - b) / n for a, b, n in zip(scores, reference, tokens, strict=True))


def rank_agreement(
    topics: ListLike[str], scores: ListLike[float], reference: ListLike[float], tokens: ListLike[int]
) -> float:
    """Kendall's tau-b of the rankings, the mean over topics with two pairs or more.

    Where no topic has two, it is that of all pairs in one ranking, by nats per token.
    """
    groups: dict[str, list[int]] = {}
    for place, topic in enumerate(topics):
        groups.setdefault(topic, []).append(place)
    ranked = [places for places in groups.values() if len(places) > 1] or [list(range(len(topics)))]
    taus = [
        _tau([scores[at] / tokens[at] for at in places], [reference[at] / tokens[at] for at in places])
        for places in ranked
    ]
    return sum(taus) / len(taus)


def _tau(one: Iterable[float], other: Iterable[float]) -> float:
    from scipy.stats import kendalltau

    one, other = list(one), list(other)
    # Undefined where one side ties throughout; equal rankings agree all the same.
    return 1.0 if one == other else float(kendalltau(one, other).statistic)
