"""In which order a run's candidates are scored: topic by topic, or passage by passage."""

from array import array
from collections.abc import Hashable, Iterator, Sequence

from qpeft_rerank.trec.runs import Run


def listed(run: Run, depth: int, by_passage: bool = False) -> Iterator[tuple[str, str]]:
    """(topic, docid) of the first ``depth`` of each topic, as they are scored.

    :param by_passage: all topics of a passage one after another, passages as the run first names them. However
        long the run, each passage's tokens then meet all its questions at once.
    """
    if not by_passage:
        yield from ((topic, hit.docid) for topic, hits in run.items() for hit in hits[:depth])
        return
    topics = [topic for topic, hits in run.items() for _ in hits[:depth]]
    docids = [hit.docid for hits in run.values() for hit in hits[:depth]]
    yield from ((topics[place], docids[place]) for place in grouped(docids))


def grouped(names: Sequence[Hashable]) -> "array[int]":
    """Places in a list, equal entries one after another."""
    numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return array("q", sorted(range(len(names)), key=lambda place: numbers[names[place]]))
