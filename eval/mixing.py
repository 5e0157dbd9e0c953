"""Mixtures of first-stage scores and likelihoods: alpha swept on the dev questions, chosen there, shown on test."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eval.chain import Chain, Split
from eval.conditions import Condition
from eval.store import Store
from eval.values import answered_topics
from qpeft_rerank.errors import InputError
from qpeft_rerank.fusion import interpolate
from qpeft_rerank.trec.measures import evaluate
from qpeft_rerank.trec.qrels import Qrels, read_qrels
from qpeft_rerank.trec.runs import Run, read_run

if TYPE_CHECKING:
    import numpy

#: Weights of the likelihood: 0 is the first stage alone, 1 the language model alone.
ALPHAS = tuple(place / 20 for place in range(21))


@dataclass(frozen=True)
class Scored:
    """The candidates of some questions, scored twice.

    :param likelihood: topic to docid to log P(query | passage) in nats, for every docid of ``first``.
    :param topics: those over which is averaged (the *clean* list, see :class:`~eval.values.Values`); one that ``first``
        lacks counts 0.
    """

    first: Run
    likelihood: Mapping[str, Mapping[str, float]]
    qrels: Qrels
    topics: tuple[str, ...]


@dataclass(frozen=True)
class Fused:
    """A reranker mixed with its first stage.

    :param test: ``[topics, alphas]``, fractions from 0 to 1, over the test topics.
    :param dev: the mean at each of :data:`ALPHAS` over the dev topics; None where no dev run exists.
    """

    condition: Condition
    measure: str
    test: "numpy.ndarray"
    dev: tuple[float, ...] | None

    @property
    def curve(self) -> list[float]:
        """The test mean at each of :data:`ALPHAS`; empty where no topic has a relevant candidate."""
        return list(map(float, self.test.mean(axis=0))) if len(self.test) else []

    @property
    def chosen(self) -> int | None:
        """The place in :data:`ALPHAS` that is best on dev; of equal ones the middle one."""
        if self.dev is None:
            return None
        best = [place for place, value in enumerate(self.dev) if value >= max(self.dev) - 1e-12]
        return best[len(best) // 2]


def sweep(scored: Scored, measure: str, alphas: Sequence[float] = ALPHAS) -> "numpy.ndarray":
    """A measure of every mixture, ``[topics, alphas]``, fractions from 0 to 1."""
    import numpy

    columns = []
    for alpha in alphas:
        mixed = {}
        for topic in scored.topics:
            hits, new = scored.first.get(topic, []), scored.likelihood.get(topic, {})
            values = interpolate([new[hit.docid] for hit in hits], [hit.score for hit in hits], alpha)
            mixed[topic] = {hit.docid: value for hit, value in zip(hits, values, strict=True)}
        found = evaluate(mixed, scored.qrels, [measure], scored.topics).per_topic[measure] if mixed else {}
        columns.append([found[topic] for topic in scored.topics])
    return numpy.array(columns, float).T.reshape(len(scored.topics), len(alphas))


def read_scored(first: Path, reranked: Path, qrels: Path) -> Scored:
    """Read what the steps of a condition wrote.

    :raises InputError: for a damaged file, and runs that do not hold the same candidates.
    """
    base, new, judged = read_run(str(first)), read_run(str(reranked)), read_qrels(str(qrels))
    likelihood = {topic: {hit.docid: hit.score for hit in hits} for topic, hits in new.items()}
    for topic, hits in base.items():
        if {hit.docid for hit in hits} != likelihood.get(topic, {}).keys():
            raise InputError(f"{reranked}: topic {topic} has other candidates than in {first}; delete it and rerank")
    answered = answered_topics(qrels)
    return Scored(base, likelihood, judged, tuple(topic for topic in judged if topic in answered))


def fuse(condition: Condition, chain: Chain, store: Store, measure: str) -> Fused:
    """Sweep a finished condition; its dev run only if that is finished, too."""
    dev = scored_of(condition, chain, store, "dev") if dev_is_done(condition, chain, store) else None
    means = sweep(dev, measure).mean(axis=0) if dev is not None and dev.topics else None
    test = sweep(scored_of(condition, chain, store, "test"), measure)
    return Fused(condition, measure, test, None if means is None else tuple(map(float, means)))


def dev_is_done(condition: Condition, chain: Chain, store: Store) -> bool:
    """Tell whether the dev questions were reranked and judged."""
    if not chain.has_dev(condition):
        return False
    return all(store.is_done(step(condition, "dev")) for step in (chain.rerank, chain.judgements))


def scored_of(condition: Condition, chain: Chain, store: Store, split: Split = "test") -> Scored:
    """The candidates of a reranker whose steps are done."""
    steps = (chain.candidates, chain.rerank, chain.judgements)
    return read_scored(*(step(condition, split).place(store.work) for step in steps))
