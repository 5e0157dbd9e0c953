"""What Python code hands over, checked: names, queries, passages and runs."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from math import isfinite
from numbers import Rational, Real

from qpeft_rerank.collection.hits import Found, is_found, passage_from_hit
from qpeft_rerank.collection.passages import Passage, Passages
from qpeft_rerank.engines.local import Candidate
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.trec.runs import Hit, Run
from qpeft_rerank.trec.topics import Topic, check_topics

#: What a model, an adapter or a prompt is asked for by.
Named = str | os.PathLike[str]
#: What a passage is given as: its text, itself, or what Pyserini found.
Readable = str | Passage | Found


def spelled(what: str, name: Named) -> str:
    """A name or a path as a string."""
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"{what}: is {type(name).__name__}; give a name or a path")
    return os.fsdecode(name)


def spelled_list(what: str, names: Iterable[Named] | None) -> list[str]:
    """Several of them, or none; one alone is refused, for it would be taken for a list of its letters."""
    if names is None:
        return []
    if isinstance(names, str | os.PathLike):
        raise InputError(f"{what}: a list is wanted, not a single name; write [{str(names)!r}]")
    _check_ordered(what, names, "names")
    return [spelled(what, name) for name in names]


def watchers(journal: object, **told: Callable[[int], object] | None) -> list[Callable[[int], object]]:
    """What to call with counts, by the names of arguments; where none is given, something that does nothing.

    :raises InputError: for what cannot be called, and a journal that is none, such as its path.
    """
    if not isinstance(journal, Journal | None):
        raise InputError(
            f"journal: is {type(journal).__name__}; give a qpeft_rerank.likelihood.journal.Journal, or None"
        )
    for name, function in told.items():
        if function is not None and not callable(function):
            raise InputError(f"{name}: is {type(function).__name__}; give a function that takes a number, or None")
    return [function or _silent for function in told.values()]


def _silent(count: int) -> None:
    pass


def checked_passages(passages: Iterable[Readable]) -> Iterable[Readable]:
    """Passages as they are; one alone is refused, for a text is a list of its letters to Python."""
    if isinstance(passages, str | Passage) or is_found(passages):
        raise InputError("passages: a list is wanted, not a single passage; write [passage]")
    if isinstance(passages, Mapping):
        raise InputError(f"passages: is {type(passages).__name__}, a list is wanted; write list(passages.values())")
    _check_ordered("passages", passages, "passages")
    return passages


def paired(pairs: Iterable[tuple[str, Readable]]) -> Iterator[Candidate]:
    """Candidates of (query, passage) pairs, named by their places.

    :raises InputError: with the place of what is no such pair.
    """
    _check_ordered("pairs", pairs, "(query, passage) pairs")
    for place, pair in enumerate(pairs):
        # A text of two letters could be taken apart as well, and what has keys or no order into anything.
        if isinstance(pair, str | Mapping | Set) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise InputError(f"pair {place}: is {type(pair).__name__}; give (query, passage)")
        query, passage = pair
        if not isinstance(query, str):
            raise InputError(f"pair {place}: the query is {type(query).__name__}; give a string")
        yield Candidate(Topic(str(place), query), _passage(place, passage))


def _passage(place: int, given: object) -> Passage:
    if isinstance(given, Passage):
        return given
    if isinstance(given, str):
        return Passage(str(place), "", given)
    if is_found(given):
        return passage_from_hit(given)
    raise InputError(
        f"pair {place}: the passage is {type(given).__name__}; give a string, a Passage or a hit of Pyserini's "
        "LuceneSearcher"
    )


def check_given(run: Run, topics: Mapping[str, Topic], passages: Passages) -> None:
    """Refuse what is no run, no topics or no collection, and a run that no file could hold.

    :raises InputError: saying what to give.
    """
    if not hasattr(passages, "fetch") or not hasattr(passages, "prepare"):
        raise InputError(f"passages: is {type(passages).__name__}; give an index or a CorpusFile")
    if not isinstance(run, Mapping):
        raise InputError(f"run: is {type(run).__name__}; give a mapping from topics")
    check_topics(topics)
    for topic, hits in run.items():
        if not isinstance(topic, str):
            raise InputError(f"run, topic {topic!r}: its id is {type(topic).__name__}; give a string")
        if not isinstance(hits, Sequence) or not all(isinstance(hit, Hit) for hit in hits):
            raise InputError(f"run, topic {topic!r}: give a list of Hit(docid, score, rank)")
        for hit in hits:
            if not isinstance(hit.docid, str):
                raise InputError(
                    f"run, topic {topic!r}: docid {hit.docid!r} is {type(hit.docid).__name__}; give a string"
                )
            if not _is_finite(hit.score):
                raise InputError(
                    f"run, topic {topic!r}: docid {hit.docid}: score {_shown(hit.score)} is not a finite number"
                )
        if len({hit.docid for hit in hits}) < len(hits):
            raise InputError(f"run, topic {topic!r}: has a docid twice; leave one out")


def _is_finite(score: object) -> bool:
    try:
        return isinstance(score, Real) and isfinite(score)
    except OverflowError:  # a whole number, or a fraction, beyond all floats
        return False


def _shown(score: object) -> str:
    # Python writes no whole number of thousands of digits.
    return "beyond all floats" if isinstance(score, Rational) else repr(score)


def _check_ordered(name: str, given: object, of: str) -> None:
    """Refuse what cannot be gone through in an order, for that is what scores are given back by.

    A table is gone through by the names of its columns, and an array of no dimension is a single thing.
    """
    table = hasattr(given, "columns") or getattr(given, "ndim", 1) == 0
    listed = hasattr(given, "__iter__") or hasattr(given, "__getitem__")
    if isinstance(given, Mapping | set | frozenset) or table or not listed:
        raise InputError(f"{name}: is {type(given).__name__}; give a list of {of}")
