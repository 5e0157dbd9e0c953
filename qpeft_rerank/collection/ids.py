"""Which docids a Lucene index holds, without reading a document."""

from collections.abc import Sequence
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
    from jnius import autoclass

    searcher = autoclass("org.apache.lucene.search.IndexSearcher")(reader)
    build = autoclass("org.apache.lucene.util.QueryBuilder")(
        autoclass("org.apache.lucene.analysis.core.WhitespaceAnalyzer")(_LONGEST)
    )

    def lacks(some: Sequence[str]) -> bool:
        return int(searcher.count(build.createBooleanQuery(_FIELD, " ".join(some)))) < len(some)

    docids = [docid for docid in docids if docid.split() == [docid]]
    for start in range(0, len(docids), _AT_ONCE):
        some = docids[start : start + _AT_ONCE]
        if lacks(some):
            while len(some) > 1:
                half = some[: len(some) // 2]
                some = half if lacks(half) else some[len(half) :]
            return some[0]
    return None
