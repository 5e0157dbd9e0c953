"""What reranking a run gives: its pairs' scores, and the rankings that they make."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from qpeft_rerank.certify import Certificate
from qpeft_rerank.fusion import interpolate, with_tail
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.trec.pairs import listed
from qpeft_rerank.trec.runs import Run


class ScoredPair(NamedTuple):
    """One reranked candidate of a run."""

    topic: str
    docid: str
    score: Score


@dataclass(slots=True)
class RerankedRun:
    """A run with new scores.

    :param run: per topic, (docid, score) in trec_eval's order, the tail below the reranked head.
    :param pairs: what was scored, in the order of the first stage.
    :param missing: (topic, docid) not in the collection, left in the tail.
    :param certificate: how the first ranks were made sure of, if they were.
    """

    run: dict[str, list[tuple[str, float]]]
    pairs: list[ScoredPair] = field(default_factory=list)
    missing: list[tuple[str, str]] = field(default_factory=list)
    certificate: Certificate | None = None


def merge(run: Run, pairs: Iterable[ScoredPair], alpha: float = 1.0) -> dict[str, list[tuple[str, float]]]:
    """A run's new rankings: scored passages first, interpolated, the others below in their old order."""
    likelihood: dict[str, dict[str, float]] = {topic: {} for topic in run}
    for pair in pairs:
        likelihood[pair.topic][pair.docid] = pair.score.total
    merged = {}
    for topic, hits in run.items():
        new = likelihood[topic]
        head = [hit for hit in hits if hit.docid in new]
        mixed = interpolate([new[hit.docid] for hit in head], [hit.score for hit in head], alpha)
        tail = [hit.docid for hit in hits if hit.docid not in new]
        merged[topic] = with_tail([(hit.docid, score) for hit, score in zip(head, mixed, strict=True)], tail)
    return merged


def in_order(run: Run, depth: int, pairs: Iterable[ScoredPair]) -> list[ScoredPair]:
    """Pairs in the first stage's order, however they were scored."""
    found = {pair[:2]: pair for pair in pairs}
    return [found[name] for name in listed(run, depth) if name in found]


def score_lines(result: RerankedRun) -> Iterator[str]:
    """One JSON line a scored candidate: nats summed and per token, tokens scored, truncated or not."""
    for pair in result.pairs:
        record = {
            "qid": pair.topic,
            "docid": pair.docid,
            "sum": pair.score.total,
            "mean": pair.score.mean,
            "tokens": pair.score.tokens,
            "truncated": pair.score.truncated,
        }
        yield json.dumps(record, ensure_ascii=False) + "\n"
