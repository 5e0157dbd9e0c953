"""Which docids a Lucene index holds, without reading a document."""

from collections.abc import Callable, Sequence
from typing import Any

_FIELD = "id"
# Counted in one query: as many clauses as Lucene takes. A call into Java costs more than the look at an id.
_AT_ONCE = 1024
# The longest word that the analyzer may be told to leave whole; longer than any term of an index.
_LONGEST = 1 << 20


def first_absent(reader: Any, docids: Sequence[str]) -> str | None:
    """Return the first of ``docids``, each named once, that no document of a Lucene reader has; None if all are there.

    An id that several documents have may hide an absent one. One that white space divides is taken to be there:
    it takes fetching to tell.
    """
    return _first(reader, docids, lambda found, asked: found < asked)


def first_present(reader: Any, docids: Sequence[str]) -> str | None:
    """Return the first of ``docids`` that a document of a Lucene reader has; None if none is there, or has white space."""
    return _first(reader, docids, lambda found, asked: found > 0)


def _first(reader: Any, docids: Sequence[str], holds: Callable[[int, int], bool]) -> str | None:
    """The first docid of the fewest for which something holds: how many documents have one of how many docids."""
    from jnius import autoclass

    searcher = autoclass("org.apache.lucene.search.IndexSearcher")(reader)
    build = autoclass("org.apache.lucene.util.QueryBuilder")(
        autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")(_LONGEST)
    )

    def told(some: Sequence[str]) -> bool:
        return holds(int(searcher.count(build.createBooleanQuery(_FIELD, " ".join(some)))), len(some))

    docids = [docid for docid in docids if docid.split() == [docid]]
    for start in range(0, len(docids), _AT_ONCE):
        some = docids[start : start + _AT_ONCE]
        if told(some):
            while len(some) > 1:
                half = some[: len(some) // 2]
                some = half if told(half) else some[len(half) :]
            return some[0]
    return None
