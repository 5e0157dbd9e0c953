"""Queries and passages that Python code hands over, checked."""

from collections.abc import Iterable, Iterator

from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.engines.local import Candidate
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.topics import Topic


def checked_passages(passages: Iterable[str | Passage]) -> Iterable[str | Passage]:
    """Passages as they are; one alone is refused, for a text is a list of its letters to Python."""
    if isinstance(passages, str | Passage):
        raise InputError("passages: a list is wanted, not a single passage; write [passage]")
    return passages


def paired(pairs: Iterable[tuple[str, str | Passage]]) -> Iterator[Candidate]:
    """Candidates of (query, passage) pairs, named by their places.

    :raises InputError: with the place of what is no such pair.
    """
    for place, pair in enumerate(pairs):
        # A text of two letters could be taken apart as well.
        if isinstance(pair, str) or not hasattr(pair, "__len__") or len(pair) != 2:
            raise InputError(f"pair {place}: is {type(pair).__name__}; give (query, passage)")
        query, passage = pair
        if not isinstance(query, str):
            raise InputError(f"pair {place}: the query is {type(query).__name__}; give a string")
        if isinstance(passage, str):
            passage = Passage(str(place), "", passage)
        if not isinstance(passage, Passage):
            raise InputError(f"pair {place}: the passage is {type(passage).__name__}; give a string or a Passage")
        yield Candidate(Topic(str(place), query), passage)
