"""Scoring on this machine: shard by shard, longest first, journalled batch by batch."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial

from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.engines.ahead import ahead
from qpeft_rerank.engines.side_by_side import in_order
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.journal import Journal, score_key
from qpeft_rerank.likelihood.scorer import refuse_nan
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.trec.topics import Topic

# Candidates tokenised and sorted at a time: memory stays flat however long the run, and batches are full.
SHARD = 4096
# At first one and then more: the first score waits for no other, and while that is scored the processor is not busy
# with thousands of texts.
FIRST, GROWTH = 1, 32


@dataclass(frozen=True, slots=True)
class Candidate:
    """One topic with one of its passages."""

    topic: Topic
    passage: Passage

    @property
    def texts(self) -> tuple[str, str, str]:
        """Query, title and text: what a score depends on."""
        return self.topic.text, self.passage.title, self.passage.text


@dataclass(frozen=True, slots=True)
class Unit:
    """One candidate to be scored by one of several methods."""

    candidate: Candidate
    owner: int


@dataclass(frozen=True, slots=True)
class Shard:
    """What is planned at a time.

    :param keys: of its units, in their order.
    :param found: scores that were there before the run began, by key.
    :param fresh: the other units, each text once, by key.
    :param sequences: theirs.
    """

    number: int
    keys: list[str]
    found: dict[str, Score]
    fresh: dict[str, Unit]
    sequences: list[Sequence]


def shards(candidates: Iterable[Candidate], shared: bool) -> Iterator[list[Candidate]]:
    """Cut candidates, in their order, into what is tokenised and planned at a time: few at first, then more.

    :param shared: whether passages are shared: a shard then ends with a passage, unless that doubled it.
    """
    shard: list[Candidate] = []
    size = FIRST
    for candidate in candidates:
        room = 2 if shared and shard and candidate.passage == shard[-1].passage else 1
        if len(shard) >= room * size:
            yield shard
            shard, size = [], min(size * GROWTH, SHARD)
        shard.append(candidate)
    if shard:
        yield shard


class LocalEngine:
    """Scores candidates in this process, by one method or several, all of them in one journal.

    :param methods: what scores them.
    :param batch_tokens: tokens in one forward pass, padding included.
    :param journal: where scores are kept, or None.
    """

    def __init__(self, methods: Methods, batch_tokens: int, journal: Journal | None = None) -> None:
        self.methods = methods
        self.batch_tokens = batch_tokens
        self.journal = journal

    @property
    def by_passage(self) -> bool:
        """Whether candidates should come passage by passage, so that each meets all its topics in one shard."""
        return self.methods.mode != "off"

    def run_digest(self, candidates: Iterable[tuple[str, str]]) -> str:
        """A digest of the plan: the scorers, the ids in order, and what decides the batches."""
        first, *others = self.methods.scorers
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{first.fingerprint} {self.batch_tokens} {FIRST} {GROWTH} {SHARD}".encode("ascii"))
        if first.model.compiled:
            digest.update(b" compiled")
        if self.by_passage:
            digest.update(f" by passage {self.methods.mode}".encode("ascii"))
        for topic, docid in candidates:
            digest.update(f"{topic}\t{docid}\n".encode("utf-8", "surrogatepass"))
        if not others:
            return digest.hexdigest()
        named = " ".join([digest.hexdigest(), *(scorer.fingerprint for scorer in others)])
        return hashlib.blake2b(named.encode("ascii"), digest_size=16).hexdigest()

    def score(
        self, candidates: Iterable[Candidate], progress: Callable[[int], object] = lambda done: None
    ) -> Iterator[tuple[Score, ...]]:
        """The scores of each candidate by all methods, in the order given.

        :param progress: called with the number of scores done, after each batch.
        :raises InputError: if the model gives NaN; batches scored before stay in the journal.
        """
        with closing(self._read(candidates)) as read:
            for shard in read:
                scores = self._score_shard(shard, progress)
                each = len(scores) // len(self.methods.scorers)
                yield from zip(*(scores[start : start + each] for start in range(0, len(scores), each)), strict=True)

    def _read(self, candidates: Iterable[Candidate]) -> Generator[Shard, None, None]:
        """Shards, the next one fetched and tokenised while the one before is scored."""
        owners = range(len(self.methods.scorers))
        return ahead(
            self._encoded(number, [Unit(candidate, owner) for owner in owners for candidate in shard])
            for number, shard in enumerate(shards(candidates, self.by_passage))
        )

    def _encoded(self, number: int, units: list[Unit]) -> Shard:
        scorers = self.methods.scorers
        keys = [score_key(scorers[unit.owner].fingerprint, *unit.candidate.texts) for unit in units]
        found: dict[str, Score] = {}
        fresh: dict[str, Unit] = {}
        for key, unit in zip(keys, units, strict=True):
            earlier = self.journal.earlier(key) if self.journal else None
            if earlier is not None:
                found[key] = earlier
            else:
                fresh.setdefault(key, unit)
        sequences = self.methods.encode((unit.owner, unit.candidate.texts) for unit in fresh.values())
        return Shard(number, keys, found, fresh, sequences)

    def _score_shard(self, shard: Shard, progress: Callable[[int], object]) -> list[Score]:
        number, found, sequences = shard.number, shard.found, shard.sequences
        pending = list(shard.fresh)
        self._spare(len(shard.keys) - len(pending))
        progress(len(shard.keys) - len(pending))
        plan = self.methods.plan(sequences, self.batch_tokens)
        kept = [self._kept([pending[index] for index in planned.indices], number) for planned in plan]
        # All of a batch, so that it is the batch that it was; a kill may have left a part of it.
        works: list[Callable[[], list[Score]]] = [
            partial(self.methods.score, planned, sequences)
            for planned, known in zip(plan, kept, strict=True)
            if None in known
        ]
        with closing(in_order(works, self.methods.divisible, len(plan))) as made:
            for planned, known in zip(plan, kept, strict=True):
                batch = planned.indices
                scores = {index: score for index, score in zip(batch, known, strict=True) if score is not None}
                if None not in known:
                    self._spare(len(batch))
                else:
                    anew = dict(zip(batch, next(made), strict=True))
                    lost = {index: score for index, score in anew.items() if index not in scores}
                    for index, score in lost.items():
                        candidate = shard.fresh[pending[index]].candidate
                        refuse_nan(score, f"topic {candidate.topic.id}, passage {candidate.passage.docid}")
                    if self.journal:
                        self.journal.add(((pending[index], score) for index, score in lost.items()), number)
                    scores |= lost
                found.update((pending[index], score) for index, score in scores.items())
                progress(len(batch))
        return [found[key] for key in shard.keys]

    def _kept(self, keys: list[str], number: int) -> list[Score | None]:
        """What a batch's journal has of it; see :meth:`Journal.mine`."""
        return [self.journal.mine(key, number) if self.journal else None for key in keys]

    def _spare(self, count: int) -> None:
        if self.journal:
            self.journal.spared += count
