"""A run in parts: what each of several processes scores, and how it becomes one result.

Pairs are divided by passage, not by topic: a passage is then fetched and read by one process only, for all its
topics, and no topic is too large to be divided. Rankings are made of the pairs when they are together again.
"""

import glob
import heapq
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.results import RerankedRun, ScoredPair, in_order, merge
from qpeft_rerank.trec.pairs import listed
from qpeft_rerank.trec.runs import Run

if TYPE_CHECKING:
    from qpeft_rerank.engines.processes import Team

#: A part of a run, the journal it is kept in, and what to call with the scores done, to a result for each method.
ScoreRun = Callable[[Run, Journal, Callable[[int], object]], list[RerankedRun]]


class Part(NamedTuple):
    """What one process has found.

    :param pairs: of each method, its own way of scoring last.
    :param missing: (topic, docid) not in the collection.
    :param written: the scores of its journal, by key.
    """

    pairs: list[list[ScoredPair]]
    missing: list[tuple[str, str]]
    written: dict[str, Score]


def divide(run: Run, depth: int, count: int) -> list[Run]:
    """The first ``depth`` of each topic in ``count`` runs with about as many pairs, no passage in two of them.

    Passages of many topics are dealt first, each to the process that has least, so all have as many of those.
    """
    topics = Counter(hit.docid for hits in run.values() for hit in hits[:depth])
    loads = [(0, place) for place in range(count)]
    owner = {}
    for docid, pairs in topics.most_common():
        load, place = loads[0]
        owner[docid] = place
        heapq.heapreplace(loads, (load + pairs, place))
    parts: list[Run] = [{} for _ in range(count)]
    for topic, hits in run.items():
        for hit in hits[:depth]:
            parts[owner[hit.docid]].setdefault(topic, []).append(hit)
    return parts


def assemble(run: Run, depth: int, parts: Iterable[Part], alpha: float) -> list[RerankedRun]:
    """What one process would have found: a result for each method, in the order of the first stage."""
    parts = list(parts)
    absent = {name for part in parts for name in part.missing}
    missing = [name for name in listed(run, depth) if name in absent]
    results = []
    for found in zip(*(part.pairs for part in parts), strict=True):
        together = in_order(run, depth, chain.from_iterable(found))
        results.append(RerankedRun(merge(run, together, alpha), together, missing))
    return results


class Share:
    """This process's share in a job.

    :param team: the processes.
    :param path: of the job's journal, which only the main process opens; this one's is beside it.
    """

    def __init__(self, team: "Team", path: Path) -> None:
        self.team = team
        self.path = path.with_name(f"{_stem(path)}.rank{team.rank}of{team.count}.journal")
        self._parts: list[Part] = []

    def part(self, run: Run, depth: int) -> Run:
        """What this process scores of a run."""
        return divide(run, depth, self.team.count)[self.team.rank]

    def rerank(
        self,
        run: Run,
        depth: int,
        alpha: float,
        journal: Journal | None,
        score: ScoreRun,
        done: Callable[[int], object],
    ) -> list[RerankedRun]:
        """Score this process's part; return what ``score`` would of the whole run, in the main process.

        :param journal: the job's, in the main process: all know its scores.
        :param score: :meth:`Reranker.compare_run` of a run, given its journal and what to call after each batch.
        :param done: called with the number of scores that all processes have done.
        :returns: nothing in other processes.
        """
        known = self.team.from_main(lambda: journal.scores() if journal else {})
        part = self.part(run, depth)
        with Journal(self.path, known) as own:
            found = score(part, own, lambda scores: done(self.team.add(scores)))
            mine = Part([result.pairs for result in found], found[-1].missing, own.written())
        self._parts = self.team.gather(mine, lambda: done(self.team.add(0)))
        done(self.team.add(0))
        return assemble(run, depth, self._parts, alpha) if self.team.main else []

    def finish(self, journal: Journal | None = None) -> None:
        """Leave one journal, as one process does, once the main process has written everything."""
        if journal:
            for rank, part in enumerate(self._parts):
                journal.absorb(f"rank{rank}of{self.team.count}", part.written)
        self.team.meet()
        self.path.unlink(missing_ok=True)


def collect(journal: Journal, count: int) -> None:
    """Take over what another number of processes left when they were stopped.

    :raises InputError: if one of them still writes.
    """
    named = glob.escape(_stem(journal.path))
    for path in sorted(journal.path.parent.glob(f"{named}.rank*of*.journal")):
        if count == 1 or not path.name.endswith(f"of{count}.journal"):
            with Journal(path) as left:
                journal.absorb(path.name, left.written())
            path.unlink(missing_ok=True)


def _stem(path: Path) -> str:
    return path.name.removesuffix(".journal")
