"""Training triples from a first stage: positives by answers or qrels, hard negatives from the top."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from qpeft_rerank.collection.passages import Passage, Passages, Surveyed
from qpeft_rerank.errors import InputError
from qpeft_rerank.training.examples import Example
from qpeft_rerank.trec.answers import AnswerMatcher
from qpeft_rerank.trec.qrels import Qrels
from qpeft_rerank.trec.runs import Hit, Run, UnjoinedError
from qpeft_rerank.trec.topics import Topic

# Topics searched and fetched together: enough to keep Lucene busy, few enough to lose little when killed.
BATCH = 32
# Topics searched before a file of passages is read for them, which takes minutes. Until then their hits are held in
# memory, and lost when killed.
PASS = 4096


class Searcher(Protocol):
    """A first stage: a Lucene index."""

    def search(self, topics: Mapping[str, Topic], hits: int = ...) -> Iterator[tuple[str, list[Hit]]]:
        """Yield (topic id, hits) for each topic."""
        ...


@dataclass(frozen=True, slots=True)
class Mining:
    """How triples are made.

    :param hits: candidates a topic.
    :param negatives: most hard negatives a topic, from the top of the ranking.
    :param positives: most positives a topic, from the top of the ranking.
    :param limit: stop after so many triples, visiting topics in an order drawn with ``seed``; None
        takes all topics in their own order.
    """

    hits: int
    negatives: int
    positives: int
    limit: int | None
    seed: int


@dataclass(slots=True)
class Tally:
    """What became of the topics."""

    topics: int = 0
    triples: int = 0
    unretrieved: int = 0
    without_positive: int = 0
    without_negative: int = 0
    false_negatives: int = 0
    absent: int = 0

    def add(self, made: bool, outcome: str, false_negatives: int, absent: int) -> None:
        """Count the outcome for one topic.

        :param made: whether it gave a triple.
        """
        self.topics += 1
        self.triples += made
        self.unretrieved += outcome == "unretrieved"
        self.without_positive += outcome == "no positive"
        self.without_negative += outcome == "no negative"
        self.false_negatives += false_negatives
        self.absent += absent

    def lines(self) -> Iterator[str]:
        """The report, a line for everything that happened."""
        yield f"{self.triples:,} of {self.topics:,} topics gave triples"
        if self.unretrieved:
            yield f"{self.unretrieved:,} topics retrieved nothing"
        if self.without_positive:
            yield f"{self.without_positive:,} topics have no positive among their candidates and were left out"
        if self.without_negative:
            yield f"{self.without_negative:,} topics have a positive but no negative"
        if self.false_negatives:
            yield f"{self.false_negatives:,} passages hold an answer though qrels do not list them: not taken"
        if self.absent:
            yield f"{self.absent:,} passages that qrels call relevant are not in the collection"


@dataclass(frozen=True, slots=True)
class Mined:
    """The outcome for one topic; ``example`` is None where it gave no triple."""

    topic: str
    example: Example | None
    outcome: str = ""
    false_negatives: int = 0
    absent: int = 0

    def count(self, tally: Tally) -> None:
        """Add this outcome to a tally."""
        tally.add(self.example is not None, self.outcome, self.false_negatives, self.absent)


@dataclass(slots=True)
class Miner:
    """Makes triples topic by topic.

    :param topics: the questions; those without answers need ``qrels``.
    :param passages: texts of the candidates.
    :param first: an index to search, or a run made before.
    :param qrels: judgements that give the positives (grade 1 or more); None takes the topics' answers.
    """

    mining: Mining
    topics: Mapping[str, Topic]
    passages: Passages
    first: Searcher | Run
    qrels: Qrels | None = None
    #: Topics that are not in the run, and so not visited.
    unranked: int = field(init=False, default=0)
    _order: list[str] = field(init=False)

    def __post_init__(self) -> None:
        if self.qrels is None:
            lacking = next((topic.id for topic in self.topics.values() if not topic.answers), None)
            if lacking is not None:
                raise InputError(f"topic {lacking} has no answers to tell positives by; give judgements with --qrels")
        self._order = list(self.topics)
        if isinstance(self.first, dict):
            run = self.first
            self._order = [topic for topic in self._order if topic in run]
            if not self._order:
                raise InputError(
                    f"none of the run's {len(run)} topics is among the {len(self.topics)} topics; "
                    "give the topics that the run was made for"
                )
            self.unranked = len(self.topics) - len(self._order)
        if self.mining.limit is not None:
            random.Random(self.mining.seed).shuffle(self._order)

    def __len__(self) -> int:
        """Number of topics to visit, without a limit."""
        return len(self._order)

    def mine(self, skip: int = 0, made: int = 0) -> Iterator[Mined]:
        """Yield the outcome of each topic in order, after the first ``skip`` of which ``made`` gave triples.

        :raises InputError: for a candidate that the passages lack.
        """
        order = self._order[skip:]
        limit = self.mining.limit
        indexed = self.passages is self.first
        # An index looks passages up one by one; a file is read once for many topics.
        many = BATCH if indexed else max(BATCH, 2 * limit) if limit else max(1, len(order))
        if not isinstance(self.first, dict):
            # A run's hits are there already.
            many = min(many, PASS)
        for start in range(0, len(order), many):
            ids = order[start : start + many]
            found = self._candidates(ids)
            if not indexed:
                self.passages.prepare(self._wanted(ids, found))
                self._check(found)
            for at in range(0, len(ids), BATCH):
                if limit is not None and made >= limit:
                    return
                for mined in self._batch(ids[at : at + BATCH], found):
                    yield mined
                    made += mined.example is not None
                    if limit is not None and made >= limit:
                        return

    def _batch(self, ids: Sequence[str], found: Mapping[str, list[Hit]]) -> Iterator[Mined]:
        texts = self.passages.fetch(self._wanted(ids, found))
        for topic in ids:
            yield self._topic(self.topics[topic], found[topic], texts)

    def _wanted(self, ids: Sequence[str], found: Mapping[str, list[Hit]]) -> list[str]:
        """Docids of all candidates and of all that the qrels call relevant."""
        wanted = dict.fromkeys(hit.docid for topic in ids for hit in found[topic])
        wanted.update(dict.fromkeys(docid for topic in ids for docid in self._relevant(topic)))
        return list(wanted)

    def _candidates(self, ids: Sequence[str]) -> dict[str, list[Hit]]:
        if isinstance(self.first, dict):
            return {topic: self.first[topic][: self.mining.hits] for topic in ids}
        found: dict[str, list[Hit]] = {topic: [] for topic in ids}
        found.update(self.first.search({topic: self.topics[topic] for topic in ids}, hits=self.mining.hits))
        return found

    def _check(self, found: Mapping[str, Sequence[Hit]]) -> None:
        """Refuse candidates that the passages lack, as far as can be told without fetching any."""
        if isinstance(self.passages, Surveyed):
            docids = dict.fromkeys(hit.docid for hits in found.values() for hit in hits)
            docid = self.passages.first_absent(list(docids))
            if docid is not None:
                raise self._absent(next(t for t, hits in found.items() if any(h.docid == docid for h in hits)), docid)

    def _absent(self, topic: str, docid: str) -> UnjoinedError:
        return UnjoinedError(
            topic,
            docid,
            f"docid {docid} (topic {topic}) is not in {self.passages.name}; "
            "give the collection that the run was made from",
        )

    def _relevant(self, topic: str) -> list[str]:
        """Docids that the qrels call relevant, the highest grade first."""
        grades = (self.qrels or {}).get(topic, {})
        return sorted((docid for docid in grades if grades[docid] > 0), key=lambda docid: -grades[docid])

    def _topic(self, topic: Topic, hits: Sequence[Hit], texts: Mapping[str, Passage]) -> Mined:
        listed = []
        for hit in hits:
            if hit.docid not in texts:
                raise self._absent(topic.id, hit.docid)
            listed.append(texts[hit.docid])
        absent = 0
        # What has no text teaches nothing, as a positive or as a negative.
        listed = [passage for passage in listed if passage.text.strip()]
        matcher = AnswerMatcher(topic.answers)
        holding = {passage.docid for passage in listed if matcher.matches(passage.text)}
        if self.qrels is None:
            relevant, doubtful = holding, set[str]()
            positives = [passage for passage in listed if passage.docid in relevant]
        else:
            judged = self._relevant(topic.id)
            relevant = set(judged)
            doubtful = holding - relevant
            # Those that the first stage found come first, in its order; then the other judged ones.
            positives = [passage for passage in listed if passage.docid in relevant]
            met = {passage.docid for passage in positives}
            absent = len(relevant - texts.keys())
            rest = [texts[docid] for docid in judged if docid not in met and docid in texts]
            positives += [passage for passage in rest if passage.text.strip()]
        if not listed and not positives:
            return Mined(topic.id, None, "unretrieved", absent=absent)
        if not positives:
            return Mined(topic.id, None, "no positive", absent=absent)
        # A copy of a positive under another docid is no negative.
        same = {passage.text for passage in positives}
        sure = (p for p in listed if p.docid not in relevant | doubtful and p.text not in same)
        negatives = tuple(islice(sure, self.mining.negatives))
        example = Example(
            topic.id,
            topic.text,
            tuple(topic.answers),
            tuple(positives[: self.mining.positives]),
            negatives,
        )
        return Mined(topic.id, example, "" if negatives else "no negative", len(doubtful), absent)
