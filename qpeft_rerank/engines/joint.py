"""The local engine for several ways of scoring at once."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Sequence as ListLike
from contextlib import closing

from qpeft_rerank.engines.local import Candidate, LocalEngine, Unit
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.likelihood.sharing import Batch
from qpeft_rerank.prompt.segments import Sequence


class JointEngine(LocalEngine):
    """Scores candidates by several methods, all of them in one journal.

    With one method it is the :class:`LocalEngine`: the same digest, batches and scores.

    :param methods: what scores them; the first is what :meth:`score` gives.
    """

    def __init__(self, methods: Methods, batch_tokens: int, journal: Journal | None = None) -> None:
        super().__init__(methods.scorers[0], batch_tokens, journal, methods.apart[0])
        self.methods = methods

    def run_digest(self, candidates: Iterable[tuple[str, str]]) -> str:
        """A digest of the plan; see :meth:`LocalEngine.run_digest`."""
        digest = super().run_digest(candidates)
        others = [scorer.fingerprint for scorer in self.methods.scorers[1:]]
        return (
            hashlib.blake2b(" ".join([digest, *others]).encode("ascii"), digest_size=16).hexdigest()
            if others
            else digest
        )

    def score_all(
        self, candidates: Iterable[Candidate], progress: Callable[[int], object] = lambda done: None
    ) -> Iterator[tuple[Score, ...]]:
        """The scores of each candidate by all methods, in the order given.

        :param progress: called with the number of scores done, after each batch.
        :raises InputError: as :meth:`LocalEngine.score` does.
        """
        count = len(self.methods.scorers)
        with closing(self._read(candidates, count)) as read:
            for shard in read:
                scores = self._score_shard(shard, progress)
                each = len(scores) // count
                yield from zip(*(scores[start : start + each] for start in range(0, len(scores), each)), strict=True)

    def _fingerprint(self, unit: Unit) -> str:
        return self.methods.scorers[unit.owner].fingerprint

    def _encode(self, units: Iterable[Unit]) -> list[Sequence]:
        return self.methods.encode((unit.owner, unit.candidate.texts) for unit in units)

    def _plan(self, sequences: ListLike[Sequence]) -> list[Batch]:
        return self.methods.plan(sequences, self.batch_tokens)

    def _score_batch(self, batch: Batch, sequences: ListLike[Sequence]) -> list[Score]:
        return self.methods.score(batch, sequences)
