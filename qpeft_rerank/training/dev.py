"""The dev metric: MRR@10 of reranking, through the scorer that reranks (method D17, D21)."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from qpeft_rerank.collection.passages import Passages
from qpeft_rerank.engines.local import Candidate, LocalEngine
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.training.examples import Example
from qpeft_rerank.trec.answers import qrels_from_answers
from qpeft_rerank.trec.measures import evaluate
from qpeft_rerank.trec.qrels import Qrels
from qpeft_rerank.trec.runs import Run
from qpeft_rerank.trec.topics import Topic

MEASURE = "MRR@10"


@dataclass(frozen=True, slots=True)
class DevSet:
    """Questions with candidates and judgements.

    :param candidates: all pairs to score, topic by topic, in the first stage's order.
    :param first_stage: the metric of that order, None where there is no order.
    """

    candidates: tuple[Candidate, ...]
    qrels: Qrels
    first_stage: float | None = None

    @property
    def digest(self) -> str:
        """SHA-256 of texts, ids and judgements."""
        described = [[*c.texts, c.topic.id, c.passage.docid] for c in self.candidates]
        return hashlib.sha256(json.dumps([described, self.qrels]).encode("ascii")).hexdigest()

    @property
    def topics(self) -> int:
        """Number of questions in the average."""
        return len(self.qrels)

    def metric(self, scores: Sequence[float]) -> float:
        """MRR@10, from 0 to 1, when candidates are ranked by ``scores`` (one each, higher is better)."""
        run: dict[str, dict[str, float]] = {}
        for candidate, score in zip(self.candidates, scores, strict=True):
            run.setdefault(candidate.topic.id, {})[candidate.passage.docid] = score
        return evaluate(run, self.qrels, [MEASURE]).mean[MEASURE]


def dev_from_run(
    run: Run,
    topics: Mapping[str, Topic],
    passages: Passages,
    depth: int,
    queries: int | None,
    qrels: Qrels | None,
) -> DevSet:
    """A dev set from the first ``depth`` of a run, judged by ``qrels`` or by the topics' answers.

    :param queries: take the first so many topics of the run, or all.
    :raises InputError: if topics and run do not belong together, or a passage is missing.
    """
    known = [topic for topic in run if topic in topics][:queries]
    if not known:
        raise InputError(
            f"none of the dev run's {len(run)} topics is among the {len(topics)} dev topics; "
            "give the topics that the run was made for"
        )
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
        judged = qrels_from_answers({topic: topics[topic] for topic in known}, hits, texts)
    else:
        judged = {topic: qrels[topic] for topic in known if topic in qrels}
    if not any(grade > 0 for grades in judged.values() for grade in grades.values()):
        raise InputError(
            "no dev candidate is relevant, so no dev metric can tell epochs apart; raise --dev-depth"
        )
    candidates = tuple(Candidate(topics[topic], found[hit.docid]) for topic in judged for hit in hits[topic])
    first = evaluate({topic: hits[topic] for topic in judged}, judged, [MEASURE]).mean[MEASURE]
    return DevSet(candidates, judged, first)


def dev_from_examples(examples: Sequence[Example]) -> DevSet:
    """A dev set from triples: each question's positives against its negatives."""
    candidates: list[Candidate] = []
    qrels: Qrels = {}
    for place, example in enumerate(examples):
        topic = Topic(str(place), example.query, example.answers)
        listed = [(passage, 1) for passage in example.positives]
        listed += [(passage, 0) for passage in (example.hard or example.plain)]
        grades = qrels[topic.id] = {}
        for number, (passage, grade) in enumerate(listed):
            # Named by place: triples of several sources may share or lack docids.
            named = type(passage)(f"{number:03d}", passage.title, passage.text)
            candidates.append(Candidate(topic, named))
            grades[named.docid] = grade
    if not candidates:
        raise InputError("the dev triples are empty; mine some with python -m qpeft_rerank.mine")
    return DevSet(tuple(candidates), qrels)


def score_dev(
    dev: DevSet,
    scorer: Scorer,
    batch_tokens: int,
    share: slice = slice(None),
    progress: Callable[[int], object] = lambda done: None,
) -> list[float]:
    """Log-likelihood in nats of the candidates in ``share``, in order."""
    engine = LocalEngine(scorer, batch_tokens)
    return [score.total for score in engine.score(dev.candidates[share], progress)]
