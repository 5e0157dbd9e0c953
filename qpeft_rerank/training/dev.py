"""The dev metric: MRR@10 of reranking, through the scorer that reranks (method D17, D21)."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from qpeft_rerank.collection.passages import Passage, Passages
from qpeft_rerank.engines.local import Candidate, LocalEngine
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.scorer import NotFiniteError, Scorer
from qpeft_rerank.training.examples import Example
from qpeft_rerank.training.prefix_scorer import PrefixMethods, PrefixScorer
from qpeft_rerank.training.sampler import Sampling, negatives_of
from qpeft_rerank.training.workers import Workers
from qpeft_rerank.trec.answers import qrels_from_answers
from qpeft_rerank.trec.measures import evaluate
from qpeft_rerank.trec.qrels import Qrels
from qpeft_rerank.trec.runs import Run
from qpeft_rerank.trec.topics import Topic

MEASURE = "MRR@10"


@dataclass(frozen=True, slots=True)
class DevSet:
    """Questions with candidates and judgements.

    :param candidates: the pairs to score, topic by topic, in the first stage's order. Topics whose
        rank does not depend on scores, for none of their candidates is relevant or all are, have none
        here; they count all the same.
    :param qrels: judgements of all topics.
    :param settled: docids of the topics whose candidates are all relevant.
    :param first_stage: the metric of the first stage's order, None where there is no order.
    """

    candidates: tuple[Candidate, ...]
    qrels: Qrels
    settled: Mapping[str, Sequence[str]]
    first_stage: float | None

    @property
    def digest(self) -> str:
        """SHA-256 of texts, ids and judgements."""
        described = [[*c.texts, c.topic.id, c.passage.docid] for c in self.candidates]
        return hashlib.sha256(json.dumps([described, self.qrels, self.settled]).encode("ascii")).hexdigest()

    @property
    def topics(self) -> int:
        """Number of questions in the average."""
        return len(self.qrels)

    def metric(self, scores: Sequence[float]) -> float:
        """MRR@10, from 0 to 1, when candidates are ranked by ``scores`` (one each, higher is better)."""
        run = {topic: dict.fromkeys(docids, 0.0) for topic, docids in self.settled.items()}
        for candidate, score in zip(self.candidates, scores, strict=True):
            run.setdefault(candidate.topic.id, {})[candidate.passage.docid] = score
        return evaluate(run, self.qrels, [MEASURE]).mean[MEASURE]


def counted(run: Run, topics: Mapping[str, Topic], queries: int | None, qrels: Qrels | None) -> list[str]:
    """The topics that a dev set from a run averages over; see :func:`dev_from_run`.

    :raises InputError: if topics, run and judgements do not belong together.
    """
    known = [topic for topic in run if topic in topics]
    if not known:
        raise InputError(
            f"none of the dev run's {len(run)} topics is among the {len(topics)} dev topics; "
            "give the topics that the run was made for"
        )
    if qrels is not None:
        known = [topic for topic in known if topic in qrels]
        if not known:
            raise InputError("none of the dev topics in the run is judged by --dev-qrels; give their judgements")
    known = known[:queries]
    lacking = next((topic for topic in known if qrels is None and not topics[topic].answers), None)
    if lacking is not None:
        raise InputError(f"dev topic {lacking} has no answers; add them to its file, or give judgements by --dev-qrels")
    return known


def dev_from_run(
    run: Run,
    topics: Mapping[str, Topic],
    passages: Passages,
    depth: int,
    queries: int | None,
    qrels: Qrels | None,
    regex: bool = False,
) -> DevSet:
    """A dev set from the first ``depth`` of a run, judged by ``qrels`` or by the topics' answers.

    :param queries: take the first so many of the run's topics that count, or all. With ``qrels``, judged ones count.
    :param regex: whether answers are regular expressions.
    :raises InputError: if topics and run do not belong together, or a passage is missing.
    """
    known = counted(run, topics, queries, qrels)
    hits = {topic: run[topic][:depth] for topic in known}
    wanted = list(dict.fromkeys(hit.docid for listed in hits.values() for hit in listed))
    passages.prepare(wanted)
    found = passages.fetch(wanted)
    absent = next((docid for docid in wanted if docid not in found), None)
    if absent is not None:
        raise InputError(
            f"docid {absent} of the dev run is not in {passages.name}; give the collection that the run was made from"
        )
    if qrels is None:
        texts = {docid: passage.text for docid, passage in found.items()}
        judged = qrels_from_answers({topic: topics[topic] for topic in known}, hits, texts, regex)
    else:
        judged = {topic: qrels[topic] for topic in known}
    listed = {topic: [Candidate(topics[topic], found[hit.docid]) for hit in hits[topic]] for topic in judged}
    first = evaluate({topic: hits[topic] for topic in judged}, judged, [MEASURE]).mean[MEASURE]
    return _dev_set(listed, judged, first)


def dev_from_examples(examples: Sequence[Example], name: str = "") -> DevSet:
    """A dev set from triples: each question's positives against its negatives, of which those are left out that hold an
    answer or are a copy: whatever the preset trains on, a perfect model's metric is 1.

    :param name: of their file, for messages.
    """
    listed: dict[str, list[Candidate]] = {}
    qrels: Qrels = {}
    for place, example in enumerate(examples):
        topic = Topic(str(place), example.query, example.answers)
        passages = [(passage, 1) for passage in example.positives]
        passages += [(passage, 0) for passage in negatives_of(example, Sampling(filter_answers=True))]
        # Named by place: triples of several sources may share or lack docids.
        named = {f"{number:03d}": pair for number, pair in enumerate(passages)}
        listed[topic.id] = [
            Candidate(topic, Passage(docid, passage.title, passage.text)) for docid, (passage, _) in named.items()
        ]
        qrels[topic.id] = {docid: grade for docid, (_, grade) in named.items()}
    if not any(0 in grades.values() for grades in qrels.values()):
        bare = "" if not any(example.hard or example.plain for example in examples) else " without one of its answers"
        raise InputError(
            f"{f'{name}: ' if name else ''}no dev triple has a negative{bare}, so no dev metric can tell epochs apart; "
            "mine some"
        )
    return _dev_set(listed, qrels, None)


def _dev_set(listed: Mapping[str, list[Candidate]], qrels: Qrels, first_stage: float | None) -> DevSet:
    """Leave out what need not be scored."""
    open_ones: list[Candidate] = []
    settled = {}
    for topic, candidates in listed.items():
        relevant = [qrels[topic].get(candidate.passage.docid, 0) > 0 for candidate in candidates]
        if any(relevant) and not all(relevant):
            open_ones += candidates
        elif any(relevant):
            settled[topic] = [candidate.passage.docid for candidate in candidates]
    if not open_ones:
        raise InputError(
            "no dev question has relevant and other candidates, so no dev metric can tell epochs apart; "
            "raise --dev-depth or give more dev questions"
        )
    return DevSet(tuple(open_ones), qrels, settled, first_stage)


def score_dev(dev: DevSet, scorer: Scorer, batch_tokens: int, share: slice = slice(None)) -> list[float]:
    """Log-likelihood in nats of the candidates in ``share``, in order."""
    methods = PrefixMethods if isinstance(scorer, PrefixScorer) else Methods
    engine = LocalEngine(methods([scorer], "off"), batch_tokens)
    return [score.total for (score,) in engine.score(dev.candidates[share])]


def judge(dev: DevSet, scorer: Scorer, batch_tokens: int, workers: Workers) -> float:
    """MRR@10, from 0 to 1, of a dev set ranked by a scorer; each process scores every n-th candidate.

    :raises NotFiniteError: in every process, if one of them met a score that is no number.
    """
    share = slice(workers.rank, None, workers.count)
    said = "a dev score is no number"
    try:
        scores = score_dev(dev, scorer, batch_tokens, share)
    except NotFiniteError as error:
        # Told to all: those that met none would wait for this process, and the main one could save nothing.
        said, scores = str(error), [math.nan] * len(dev.candidates[share])
    every = workers.interleave(scores, len(dev.candidates))
    if any(map(math.isnan, every)):
        raise NotFiniteError(said)
    return dev.metric(every)
