"""An open Lucene index: BM25 hits for topics, passages for docids."""

import math
import sys
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from qpeft_rerank.collection import ids, jvm
from qpeft_rerank.collection.hits import stored_passage
from qpeft_rerank.collection.names import bm25_parameters
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError, check_count, first_line
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic, check_topics

_MOST_HITS = 2**31 - 1
# White space that stands around an index's docids, where any does: of lines that were cut up carelessly.
_AROUND = (("", "\r"), ("", "\n"), ("", " "), ("", "\t"), (" ", ""), ("\t", ""), (" ", " "))
FIXED_ORDER = ("msmarco-doc-dev", "msmarco-doc-test", "msmarco-passage-dev-subset", "msmarco-passage-test-subset")

#: What a topic is searched with: k1, b, and whether RM3 expands it.
Parameters = tuple[float, float, bool]

_Asked = ParamSpec("_Asked")
_Told = TypeVar("_Told")


def _visit(ask: Callable[_Asked, _Told]) -> Callable[_Asked, _Told]:
    """Let go of Java after a call of an index's that returns nothing of Java's: what the call held is gone by then.

    What else Java refuses is an index that it cannot read.
    """

    @wraps(ask)
    def asked(*args: _Asked.args, **kwargs: _Asked.kwargs) -> _Told:
        jvm.check_process()
        index: Any = args[0]
        try:
            return ask(*args, **kwargs)
        except _java_fault() as error:
            raise InputError(
                f"index {index.name}: cannot be read ({first_line(error)}); copy or build the index again"
            ) from None
        finally:
            jvm.let_go()

    return asked


def _java_fault() -> Any:
    """What is raised where Java raises: of a module that is loaded with the searcher, and by nothing else."""
    java = sys.modules.get("jnius")
    return java.JavaException if java else ()


class LuceneIndex:
    """An open Lucene index: a first stage, and a source of passages (:class:`.passages.Passages`)."""

    def __init__(
        self,
        name: str,
        searcher: Any,
        fixed_order: Callable[[str], list[str]],
        excluded: Callable[[], Mapping[str, Collection[str]]] = dict,
    ) -> None:
        """Wrap Pyserini's searcher; ``fixed_order`` gives the ids of a topic set that keeps its file's order, ``excluded``
        the docids that a topic shall not find, by topic; it is asked when there is something to search for.
        """
        self.name = name
        self._searcher = searcher
        self._fixed_order = fixed_order
        self._excluded = excluded
        # Found docids that a run holds without the white space around them, as Pyserini writes it.
        self._stripped: dict[str, str] = {}
        # Searches may be gone through in turns, or in threads, while Lucene's searcher has one set of parameters.
        self._turn = threading.Lock()
        self._set: Parameters | None = None

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    @property
    def _reader(self) -> Any:
        """Anserini's own, where it has one: no interface of Pyserini's."""
        return getattr(self._searcher.object, "reader", None)

    def prepare(self, docids: Sequence[str]) -> None:
        """Do nothing: Lucene finds a passage by id without reading the others."""

    @_visit
    def first_absent(self, docids: Sequence[str]) -> str | None:
        """Return the first of ``docids`` that the index lacks, without a look at any text."""
        reader = self._reader
        if reader is None:
            return None
        own = self._own(docids)
        absent = ids.first_absent(reader, list(own))
        # One that is there with white space around it has fellows, of which each would be met in its turn.
        if absent is not None and self._learn([own[absent]]):
            self._learn(docid for key, docid in own.items() if key == docid)
            own = self._own(docids)
            absent = ids.first_absent(reader, list(own))
        return None if absent is None else own[absent]

    @_visit
    def fetch(self, docids: Sequence[str]) -> dict[str, Passage]:
        """Return the passages that exist among ``docids``.

        :raises InputError: if the index stores no text, or cannot be read.
        """
        # str(): an integer would mean Lucene's internal number.
        own = self._own(map(str, docids))
        documents = self._searcher.batch_doc(list(own), 1)
        if self._learn(docid for key, docid in own.items() if key == docid and key not in documents):
            own = self._own(own.values())
            documents = self._searcher.batch_doc(list(own), 1)
        here, instead = f"index {self.name}:", "the passages with --corpus"
        # Pyserini leaves out, without a word, what cannot be read.
        lost = [key for key in own if key not in documents]
        if lost and (reader := self._reader) and (key := ids.first_present(reader, lost)) is not None:
            raise InputError(f"{here} passage {own[key]} cannot be read; copy or build the index again")
        return {own[key]: stored_passage(own[key], document, here, instead) for key, document in documents.items()}

    def search(
        self,
        topics: Mapping[str, Topic],
        hits: int = 1000,
        k1: float | None = None,
        b: float | None = None,
        rm3: bool = False,
        threads: int = 1,
        order: str | None = None,
    ) -> Iterator[tuple[str, list[Hit]]]:
        """Yield (topic id, hits) with BM25, in the order of Pyserini's command line and with its ties.

        Without ``k1`` and ``b`` the index's own defaults hold (0.82, 0.68 for MS MARCO passages, else 0.9,
        0.4). ``order`` is the name of the topics, if they have one: four MS MARCO sets keep the order of
        their file. Raises :class:`InputError` for what are no topics or counts, for one of ``k1``, ``b`` alone, and
        for ``rm3`` on an index without document vectors.
        """
        check_search(hits, k1, b)
        check_count("threads", threads)
        check_topics(topics)
        hits, threads = int(hits), int(threads)  # numpy's are none to Java
        if k1 is None or b is None:
            k1, b = bm25_parameters(self.name)
        how = (float(k1), float(b), rm3)
        # By what they go by in the mapping, as a reranker joins them.
        ordered = [replace(topics[topic], id=topic) for topic in self._order(topics, order)]
        for start in range(0, len(ordered), threads):
            for topic, ranked in self._ranked(ordered[start : start + threads], hits, threads, how):
                docids: set[str] = set()
                for hit in ranked:
                    if hit.docid in docids:
                        raise InputError(
                            f"index {self.name}: topic {topic} finds several passages with the docid {hit.docid}, "
                            "which a TREC run cannot tell apart; index again with an id for each"
                        )
                    docids.add(hit.docid)
                yield topic, ranked

    def _set_to(self, k1: float, b: float, rm3: bool) -> None:
        """Have the searcher take these parameters, unless it has them; :class:`InputError` if the index has no vectors for RM3."""
        if self._set == (k1, b, rm3):
            return
        self._set = None
        self._searcher.set_bm25(k1, b)
        self._searcher.unset_rm3()
        if rm3:
            try:
                self._searcher.set_rm3()
            except TypeError:
                raise InputError(
                    f"index {self.name}: stores no document vectors, which --rm3 needs; index with --storeDocvectors"
                ) from None
        self._set = (k1, b, rm3)

    @_visit
    def _ranked(self, batch: list[Topic], hits: int, threads: int, how: Parameters) -> list[tuple[str, list[Hit]]]:
        """The hits of each of some topics."""
        with self._turn:
            self._set_to(*how)
            found = self._found(batch, hits, threads)
        excluded = self._excluded()
        ranked = []
        for topic in batch:
            left_out = excluded.get(topic.id, ())
            pairs = [(self._word(hit.docid), float(hit.score)) for hit in found[topic.id]]
            kept = [pair for pair in pairs if pair[0] not in left_out]
            ranked.append((topic.id, [Hit(docid, score, rank) for rank, (docid, score) in enumerate(kept, 1)]))
        return ranked

    def _found(self, batch: list[Topic], hits: int, threads: int) -> Mapping[str, Iterable[Any]]:
        """What Lucene finds for each of some topics."""
        fault = _java_fault()
        if threads > 1:
            texts, ids = [topic.text for topic in batch], [topic.id for topic in batch]
            try:
                found: Mapping[str, Iterable[Any]] = self._searcher.batch_search(texts, ids, hits, threads)
                return found
            except fault:  # which does not tell whose: one by one they will
                pass
        each: dict[str, Iterable[Any]] = {}
        for topic in batch:
            try:
                each[topic.id] = self._searcher.search(topic.text, hits)
            except fault as error:
                if error.classname == "java.lang.NullPointerException":
                    raise InputError(
                        f"index {self.name}: topic {topic.id} finds a document without the field id, which holds the "
                        "docid; index with Anserini or Pyserini, or give a run with --run and passages with --corpus"
                    ) from None
                if "TooMany" in error.classname:
                    raise InputError(
                        f"topic {topic.id}: Lucene cannot search for it ({first_line(error)}); shorten the query"
                    ) from None
                raise
        return each

    def _own(self, docids: Iterable[str]) -> dict[str, str]:
        """The index's spelling of docids, each with that of a run."""
        return {self._stripped.get(docid, docid): docid for docid in docids}

    def _learn(self, docids: Iterable[str]) -> bool:
        """Look for docids of a run as the index may spell them; return whether there are any."""
        spelled = {f"{before}{docid}{after}": docid for docid in docids for before, after in _AROUND}
        found = self._searcher.batch_doc(list(spelled), 1) if spelled else {}
        self._stripped |= {spelled[key]: key for key in found}
        return bool(found)

    def _word(self, docid: str) -> str:
        word = docid.strip()
        if word != docid:
            self._stripped[word] = docid
        if word.split() != [word]:
            raise InputError(
                f"index {self.name}: docid {docid!r} is empty or has white space, which a TREC run cannot hold; "
                "index again with other ids"
            )
        return word

    def _order(self, topics: Iterable[str], name: str | None) -> list[str]:
        """Return topic ids in the order of Pyserini's ``QueryIterator``."""
        ids = list(topics)
        if name in FIXED_ORDER:
            fixed = self._fixed_order(name)
            if set(fixed) == set(ids):
                return fixed
        return sorted_ids(ids)


def check_search(hits: int, k1: float | None, b: float | None) -> None:
    """Refuse what no index can be searched with, which can be told before one is downloaded."""
    check_count("hits", hits)
    if (k1 is None) != (b is None):
        raise InputError("--k1 and --b go together; set both or neither")
    if k1 is not None and b is not None and not (0 <= k1 < math.inf and 0 <= b <= 1):
        raise InputError(f"--k1 {k1} --b {b}: give k1 from 0 and b from 0 to 1")
    if hits > _MOST_HITS:
        raise InputError(f"--hits {hits}: Lucene finds {_MOST_HITS} at the most")


def sorted_ids(ids: Iterable[str]) -> list[str]:
    """Sort topic ids as Pyserini does: digit ids are integers to it, a mixture is sorted as text."""
    ids = list(ids)
    return sorted(ids, key=int) if all(key.isdecimal() for key in ids) else sorted(ids)
