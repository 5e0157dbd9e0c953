"""Measures over a run, by trec_eval itself (pytrec_eval), with its traps closed.

The traps: topics that the run lacks are left out of pytrec_eval's result (here they count 0), only
plain ``str``/``float``/``int`` are taken, reciprocal rank has no cut-off, and a topic whose highest
grade is -2 or lower ends the process.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from math import fsum

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.qrels import Qrels
from qpeft_rerank.trec.runs import Hit, trec_order

# Name in lower case -> trec_eval's name without and with a cut-off (None: not offered).
_TREC_NAMES: dict[str, tuple[str | None, str | None]] = {
    "ndcg": ("ndcg", "ndcg_cut"),
    "r": (None, "recall"),
    "p": (None, "P"),
    "success": (None, "success"),
    "rr": ("recip_rank", "recip_rank"),
    "ap": ("map", "map_cut"),
}
_ALIASES = {"h": "success", "hit": "success", "recall": "r", "mrr": "rr", "map": "ap"}
_KNOWN = (
    "nDCG",
    "nDCG@10",
    "R@100",
    "P@10",
    "Success@10",
    "H@10",
    "Hit@10",
    "RR",
    "MRR",
    "RR@10",
    "MRR@10",
    "AP",
    "MAP",
    "AP@100",
)
_MEASURE = re.compile(r"([A-Za-z]+)(?:\(rel=(\d{1,4})\))?(?:@(\d{1,9}))?")


@dataclass(frozen=True, slots=True)
class Measure:
    """A measure as trec_eval knows it. ``depth`` cuts the run first (reciprocal rank only)."""

    trec: str
    cut: int | None = None
    depth: int | None = None
    relevant: int = 1

    @property
    def asked(self) -> str:
        """The name under which pytrec_eval computes it."""
        return f"{self.trec}.{self.cut}" if self.cut else self.trec

    @property
    def given(self) -> str:
        """The name under which pytrec_eval returns it."""
        return f"{self.trec}_{self.cut}" if self.cut else self.trec


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What :func:`evaluate` found; measures keep the names they were asked by.

    ``missing`` are topics that the average counts with 0 because the run has no passage for them;
    ``unjudged`` are topics of the run without judgements, which do not count, as in trec_eval, but where
    they were asked for by id, and count 0.
    """

    per_topic: dict[str, dict[str, float]]
    mean: dict[str, float]
    missing: tuple[str, ...]
    unjudged: tuple[str, ...]


def parse_measure(name: str) -> Measure:
    """Return what trec_eval calls ``name`` (``nDCG@10``, ``R@100``, ``AP(rel=2)``; case is free).

    ``(rel=2)`` raises the grade from which a passage is relevant, for the binary measures.
    :class:`InputError` names the nearest known measures.
    """
    found = _MEASURE.fullmatch(name)
    if found:
        base = _ALIASES.get(found[1].lower(), found[1].lower())
        cut = int(found[3]) if found[3] else None
        relevant = int(found[2] or 1)
        plain, with_cut = _TREC_NAMES.get(base, (None, None))
        trec = plain if cut is None else with_cut
        if trec is None and with_cut:
            raise InputError(f"measure {name}: needs a cut-off; write {name}@10")
        if trec and (cut == 0 or relevant == 0):
            raise InputError(f"measure {name}: cut-off and grade start at 1")
        if trec and found[2] and base == "ndcg":
            raise InputError(f"measure {name}: nDCG uses every grade; leave (rel=...) out")
        if trec and base == "rr":
            return Measure(trec, depth=cut, relevant=relevant)
        if trec:
            return Measure(trec, cut=cut, relevant=relevant)
    lower = {known.lower(): known for known in _KNOWN}
    near = [lower[hit] for hit in get_close_matches(name.lower(), lower, 3, 0.5)]
    hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(_KNOWN)}"
    raise InputError(f"measure {name}: unknown; {hint} (any cut-off)")


def evaluate(
    run: Mapping[str, Sequence[Hit]] | Mapping[str, Mapping[str, float]],
    qrels: Qrels,
    measures: Sequence[str],
    topic_ids: Iterable[str] | None = None,
) -> Evaluation:
    """Evaluate ``run`` against ``qrels``; values are fractions from 0 to 1.

    The average is over every topic of ``qrels``, or over exactly ``topic_ids`` when given: a topic
    that the run lacks counts 0, and so does a topic of ``topic_ids`` without judgements. Ranks are
    trec_eval's (:func:`qpeft_rerank.trec.runs.trec_order`), not those stated in the run.

    :class:`InputError` for an unknown measure, for no topic to average over, and for a score that is
    no finite float32.
    """
    parsed = {name: parse_measure(name) for name in measures}
    topics = list(dict.fromkeys(qrels if topic_ids is None else topic_ids))
    if not topics:
        raise InputError("no topics to evaluate; the qrels or the topics are empty")
    scored = {topic: _ordered(topic, run[topic]) for topic in topics if run.get(topic)}
    per_topic: dict[str, dict[str, float]] = {}
    # One pass of trec_eval for each (grade, depth), as both are settings of the whole pass.
    for relevant, depth in dict.fromkeys((measure.relevant, measure.depth) for measure in parsed.values()):
        group = [m for m in parsed.values() if (m.relevant, m.depth) == (relevant, depth)]
        found = _trec_eval(scored, qrels, {m.asked for m in group}, relevant, depth)
        for name, measure in parsed.items():
            if (measure.relevant, measure.depth) == (relevant, depth):
                per_topic[name] = {topic: found.get(topic, {}).get(measure.given, 0.0) for topic in topics}
    return Evaluation(
        per_topic={name: per_topic[name] for name in parsed},
        mean={name: fsum(per_topic[name].values()) / len(topics) for name in parsed},
        missing=tuple(topic for topic in topics if topic not in scored),
        unjudged=tuple(topic for topic in run if topic not in qrels),
    )


def _ordered(topic: str, hits: Sequence[Hit] | Mapping[str, float]) -> list[tuple[str, float]]:
    """Return (docid, score) of one topic in trec_eval's order."""
    try:
        if isinstance(hits, Mapping):
            return trec_order(hits.items())
        return trec_order((hit.docid, hit.score) for hit in hits)
    except InputError as error:
        raise InputError(f"topic {topic}, {error}") from None


def _trec_eval(
    scored: Mapping[str, list[tuple[str, float]]],
    qrels: Qrels,
    names: set[str],
    relevant: int,
    depth: int | None,
) -> dict[str, dict[str, float]]:
    """Return topic -> measure -> value for the topics in both ``scored`` and ``qrels``."""
    from pytrec_eval import RelevanceEvaluator

    # Grades below 0 gain nothing, as 0 does, but trec_eval reserves memory by the highest, too little below -1.
    judged = {
        topic: {docid: max(grade, 0) for docid, grade in qrels[topic].items()} for topic in scored if qrels.get(topic)
    }
    if not judged:
        return {}
    evaluator = RelevanceEvaluator(judged, names, relevance_level=relevant)
    result: dict[str, dict[str, float]] = evaluator.evaluate({topic: dict(scored[topic][:depth]) for topic in judged})
    return result
