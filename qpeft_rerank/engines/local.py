"""Scoring on this machine: shard by shard, longest first, journalled batch by batch."""

import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass

from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.engines.ahead import ahead
from qpeft_rerank.likelihood.journal import Journal, score_key
from qpeft_rerank.likelihood.scorer import Scorer, refuse_nan
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.likelihood.sharing import Batch, plan_plain
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
    owner: int = 0


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


def shards(candidates: Iterable[Candidate], shared: bool = False) -> Iterator[list[Candidate]]:
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
    """Scores candidates in this process.

    :param scorer: what scores them.
    :param batch_tokens: tokens in one forward pass, padding included.
    :param journal: where scores are kept, or None.
    :param shared: reads a passage once for several topics where that pays; None never does.
    """

    def __init__(
        self, scorer: Scorer, batch_tokens: int, journal: Journal | None = None, shared: SharedScorer | None = None
    ) -> None:
        self.scorer = scorer
        self.batch_tokens = batch_tokens
        self.journal = journal
        self.shared = shared if shared is not None and shared.mode != "off" else None

    @property
    def by_passage(self) -> bool:
        """Whether candidates should come passage by passage, so that each meets all its topics in one shard."""
        return self.shared is not None

    def run_digest(self, candidates: Iterable[tuple[str, str]]) -> str:
        """A digest of the plan: the scorer, the ids in order, and what decides the batches."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(f"{self.scorer.fingerprint} {self.batch_tokens} {FIRST} {GROWTH} {SHARD}".encode("ascii"))
        if self.scorer.model.compiled:
            digest.update(b" compiled")
        if self.shared:
            digest.update(f" by passage {self.shared.mode}".encode("ascii"))
        for topic, docid in candidates:
            digest.update(f"{topic}\t{docid}\n".encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def score(
        self, candidates: Iterable[Candidate], progress: Callable[[int], object] = lambda done: None
    ) -> Iterator[Score]:
        """The score of each candidate, in the order given.

        :param progress: called with the number of candidates done, after each batch.
        :raises InputError: if the model gives NaN; batches scored before stay in the journal.
        """
        with closing(self._read(candidates, 1)) as read:
            for shard in read:
                yield from self._score_shard(shard, progress)

    def _read(self, candidates: Iterable[Candidate], methods: int) -> Generator[Shard, None, None]:
        """Shards, the next one fetched and tokenised while the one before is scored.

        :param methods: by how many each candidate is scored.
        """
        listed = enumerate(shards(candidates, self.shared is not None))
        return ahead(
            self._encoded(number, [Unit(candidate, owner) for owner in range(methods) for candidate in shard])
            for number, shard in listed
        )

    def _encoded(self, number: int, units: list[Unit]) -> Shard:
        keys = [score_key(self._fingerprint(unit), *unit.candidate.texts) for unit in units]
        found: dict[str, Score] = {}
        fresh: dict[str, Unit] = {}
        for key, unit in zip(keys, units, strict=True):
            earlier = self.journal.earlier(key) if self.journal else None
            if earlier is not None:
                found[key] = earlier
            else:
                fresh.setdefault(key, unit)
        return Shard(number, keys, found, fresh, self._encode(fresh.values()))

    def _score_shard(self, shard: Shard, progress: Callable[[int], object]) -> list[Score]:
        number, found, sequences = shard.number, shard.found, shard.sequences
        pending = list(shard.fresh)
        self._spare(len(shard.keys) - len(pending))
        progress(len(shard.keys) - len(pending))
        for planned in self._plan(sequences):
            batch = planned.indices
            known = [self.journal.mine(pending[index], number) if self.journal else None for index in batch]
            scores = {index: score for index, score in zip(batch, known, strict=True) if score is not None}
            if None not in known:
                self._spare(len(batch))
            else:
                # All of the batch, so that it is the batch that it was; a kill may have left a part of it.
                anew = dict(zip(batch, self._score_batch(planned, sequences), strict=True))
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

    def _spare(self, count: int) -> None:
        if self.journal:
            self.journal.spared += count

    def _fingerprint(self, unit: Unit) -> str:
        return self.scorer.fingerprint

    def _encode(self, units: Iterable[Unit]) -> list[Sequence]:
        return self.scorer.encode(unit.candidate.texts for unit in units)

    def _plan(self, sequences: list[Sequence]) -> list[Batch]:
        if self.shared:
            return self.shared.plan(sequences, self.batch_tokens)
        return plan_plain(sequences, self.batch_tokens)

    def _score_batch(self, batch: Batch, sequences: list[Sequence]) -> list[Score]:
        if self.shared and batch.shares:
            return self.shared.score([[sequences[index] for index in row] for row in batch.rows])
        return self.scorer.score([sequences[index] for index in batch.indices])
