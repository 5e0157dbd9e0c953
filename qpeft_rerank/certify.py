"""Which scores of a cheaper precision must be computed again, so that the first ranks are float32's.

A score of low precision is taken for an interval around itself, as wide on either side as the largest error met
so far. Whatever could be among a topic's first K and shares its interval with another such candidate is open:
it is scored again in float32, which makes it a point. Each score that was computed twice is a measurement, and
one larger than the bound widens all intervals. When nothing is open, the first K stand.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

#: Pairs of a run that are scored in float32 before anything is known of the error.
FEW = 32


@dataclass(frozen=True, slots=True)
class Certificate:
    """What it took to be sure of the first ranks.

    :param first: how many ranks of each topic are float32's.
    :param bound: the largest error that was met, in nats of a whole score.
    :param again: pairs that were scored again in float32.
    :param pairs: pairs of the run.
    """

    first: int
    bound: float
    again: int
    pairs: int

    @property
    def sentence(self) -> str:
        """The same in words."""
        share = self.again / max(self.pairs, 1)
        return (
            f"first {self.first} of each topic as in float32: {self.again:,} of {self.pairs:,} pairs ({share:.1%}) "
            f"scored again, largest error met {self.bound:.3g} nats"
        )


#: (topic, docid).
Name = tuple[str, str]


def certify(
    scores: Mapping[Name, float], first: int, rescore: Callable[[set[Name]], Mapping[Name, float]]
) -> Certificate:
    """Score again in float32 until nothing is open; ``rescore`` keeps what it found.

    :param scores: of all pairs, in nats.
    :param first: ranks of each topic that shall be float32's.
    :param rescore: gives the float32 scores of some pairs.
    """
    topics: dict[str, list[Name]] = {}
    for name in scores:
        topics.setdefault(name[0], []).append(name)
    sure: dict[Name, float] = {}
    bound = 0.0
    wanted = sample(scores)
    while wanted:
        sure |= rescore(wanted)
        bound = max(bound, *(abs(sure[name] - scores[name]) for name in wanted))
        wanted = set()
        for names in topics.values():
            known = [sure.get(name, scores[name]) for name in names]
            places = open_places(known, [name in sure for name in names], bound, first)
            wanted |= {names[place] for place in places}
    return Certificate(first, bound, len(sure), len(scores))


def sample(pairs: Iterable[Name], seed: str = "") -> set[Name]:
    """A few of these (topic, docid), chosen by nothing but their names and the seed."""

    def lot(pair: Name) -> bytes:
        named = "\t".join((seed, *pair)).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(named, digest_size=8).digest()

    return set(sorted(pairs, key=lambda pair: (lot(pair), pair))[:FEW])


def open_places(scores: Sequence[float], exact: Sequence[bool], bound: float, first: int) -> list[int]:
    """Places whose order within the first ranks is not certain, of one topic.

    :param scores: a topic's scores in nats, float32's where ``exact``.
    :param bound: largest error of the others.
    :param first: ranks that shall be certain.
    """
    half = [0.0 if sure else bound for sure in exact]
    least = [score - width for score, width in zip(scores, half, strict=True)]
    most = [score + width for score, width in zip(scores, half, strict=True)]
    # As many are surely as good as this.
    floor = sorted(least, reverse=True)[min(first, len(scores)) - 1] if scores else 0.0
    within = sorted((place for place in range(len(scores)) if most[place] >= floor), key=lambda place: least[place])
    found = set()
    # The interval that reaches farthest up of those that begin lower: one that only meets later ones is it by then, or
    # met it itself.
    reach, of = float("-inf"), -1
    for place in within:
        if least[place] <= reach:
            found |= {place, of}
        if most[place] > reach:
            reach, of = most[place], place
    return sorted(place for place in found if not exact[place])
