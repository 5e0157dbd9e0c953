"""Lucene indexes through Pyserini: open, search, fetch; topics and qrels by name.

The only file that imports Pyserini, inside functions, for it takes ten seconds. What it guards against:

- up to 2.0 the import fails without an ``OPENAI_API_KEY``, though nothing here calls OpenAI;
- an unknown index name, and a download that failed, come back as ``None`` after a line on stdout;
- a docid given as an integer means Lucene's own number: another document, without any error;
- digit topic ids come back as integers, which do not join with a run's;
- the topics reader function was renamed and its arguments swapped;
- the address that topics and qrels are downloaded from no longer exists (:mod:`.evalfiles`).
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from qpeft_rerank.collection import jvm, offline
from qpeft_rerank.collection.building import build_index, is_index
from qpeft_rerank.collection.evalfiles import OFFLINE, Kind, evaluation_file, pyserini_cache
from qpeft_rerank.collection.names import (
    ALIASES,
    bm25_parameters,
    canonical_index_name,
    default_topics,
    same_name,
    suggestion,
)
from qpeft_rerank.collection.passages import Passage, passage_from_raw
from qpeft_rerank.errors import InputError, MissingError
from qpeft_rerank.trec.qrels import Qrels, read_qrels
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic, parse_answers

__all__ = [
    "LuceneIndex",
    "build_index",
    "canonical_index_name",
    "default_topics",
    "load_qrels",
    "load_topics",
    "open_index",
]


class LuceneIndex:
    """An open Lucene index: a first stage, and a source of passages (:class:`.passages.Passages`)."""

    def __init__(self, name: str, folder: Path | None = None, searcher: Any = None) -> None:
        self.name = name
        if searcher is None:
            if folder is None or not is_index(folder):
                raise InputError(
                    f"{folder}: not a Lucene index (no segments file in it); give an index folder"
                )
            pyserini = _pyserini("pyserini.search.lucene")
            try:
                with _stdout_to_stderr():
                    searcher = pyserini.LuceneSearcher(str(folder))
            except Exception as error:
                raise InputError(
                    f"{folder}: this Lucene cannot read the index ({_one_line(error)}); build it again"
                ) from None
        self._searcher = searcher

    def __len__(self) -> int:
        return int(self._searcher.num_docs)

    def prepare(self, docids: Sequence[str]) -> None:
        """Do nothing: Lucene finds a passage by id without reading the others."""

    def fetch(self, docids: Sequence[str]) -> dict[str, Passage]:
        """Return the passages that exist among ``docids``; :class:`InputError` if the index stores no text."""
        # str(): an integer would mean Lucene's internal number.
        documents = self._searcher.batch_doc([str(docid) for docid in docids], 1)
        passages = {}
        for docid, document in documents.items():
            raw = document.raw()
            if raw is None:
                raise InputError(
                    f"index {self.name}: stores no passage text (a -slim index, or built without --storeRaw); "
                    "use the full index, or give the passages with --corpus"
                )
            passages[docid] = passage_from_raw(docid, raw)
        return passages

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
        their file. Raises :class:`InputError` for one of ``k1``, ``b`` alone, and for ``rm3`` on an index
        without document vectors.
        """
        if (k1 is None) != (b is None):
            raise InputError("--k1 and --b go together; set both or neither")
        if k1 is None or b is None:
            k1, b = bm25_parameters(self.name)
        self._searcher.set_bm25(float(k1), float(b))
        self._searcher.unset_rm3()
        if rm3:
            try:
                self._searcher.set_rm3()
            except TypeError:
                raise InputError(
                    f"index {self.name}: stores no document vectors, which --rm3 needs; index with --storeDocvectors"
                ) from None
        ordered = [topics[topic] for topic in _pyserini_order(topics, order)]
        for start in range(0, len(ordered), max(1, threads)):
            batch = ordered[start : start + max(1, threads)]
            if threads <= 1:
                found = {topic.id: self._searcher.search(topic.text, hits) for topic in batch}
            else:
                texts, ids = [topic.text for topic in batch], [topic.id for topic in batch]
                found = self._searcher.batch_search(texts, ids, hits, threads)
            for topic in batch:
                listed = enumerate(found[topic.id], 1)
                yield topic.id, [Hit(hit.docid.strip(), float(hit.score), rank) for rank, hit in listed]


def open_index(name: str) -> LuceneIndex:
    """Open ``embedded``, a local index folder, or a prebuilt index (downloaded by Pyserini on first use).

    Raises :class:`InputError` for a path that is no index, for an unknown name (with the nearest ones),
    and for a download that failed.
    """
    if os.path.exists(name):
        if not os.path.isdir(name):
            raise InputError(f"{name}: a file, not an index folder; a passage file is given with --corpus")
        return LuceneIndex(name, Path(name))
    if name == "embedded":
        from qpeft_rerank.collection.embedded import embedded_index

        return embedded_index()
    if os.sep in name or name.startswith((".", "~")):
        raise InputError(f"{name}: no such folder; give an index folder or the name of a prebuilt index")
    return _open_prebuilt(name)


def _open_prebuilt(name: str) -> LuceneIndex:
    searcher_class = _pyserini("pyserini.search.lucene").LuceneSearcher
    catalogue = _pyserini("pyserini.prebuilt_index_info").TF_INDEX_INFO
    try:
        known = next((n for n in (name, ALIASES.get(name, name)) if n in catalogue), None)
        near = "" if known else suggestion(name, catalogue)
        entry = catalogue[known] if known else {}
    except OSError as error:
        # From 2.4 on the list of names is on the network.
        raise InputError(
            f"index {name!r}: no such folder, and Pyserini's list of prebuilt indexes cannot be had "
            f"({_one_line(error)}); check the network, or give an index folder"
        ) from None
    if known is None:
        raise InputError(f"index {name!r}: neither a folder nor a prebuilt BM25 index{near}")
    folder = pyserini_cache() / "indexes"
    try:
        with _stdout_to_stderr():
            searcher = searcher_class.from_prebuilt_index(known)
        fault = "" if searcher is not None else "no address answered"
    except ValueError as error:
        # Present but other than expected: Pyserini would refuse it for ever.
        raise InputError(
            f"index {known}: {_one_line(error)} Remove {folder / _unpacked_name(entry)} and try again"
        ) from None
    except Exception as error:
        # Pyserini reports a wrong size or checksum as AssertionError and HTTP errors as a missing file.
        fault = _one_line(error)
    if fault:
        raise InputError(
            f"index {known}: the download of {entry['urls'][0]} failed ({fault}); check the network, or unpack "
            f"the index by hand as {folder / _unpacked_name(entry)}"
        )
    return LuceneIndex(canonical_index_name(name), searcher=searcher)


def _unpacked_name(entry: Mapping[str, Any]) -> str:
    file = str(entry.get("filename") or entry["urls"][0].rsplit("/", 1)[-1])
    return f"{file.split('.tar')[0]}.{entry['md5']}"


def load_topics(name: str) -> dict[str, Topic]:
    """Return a topic set that Pyserini knows by name (``dpr-nq-test`` or ``dpr.nq.test``), ids as strings.

    Raises :class:`InputError` for an unknown name (with the nearest ones) and for a failed download,
    naming the folder where the file can be put by hand.
    """
    base = _pyserini("pyserini.search._base")
    file, reader = _evaluation_entry(base, "topics", name)
    path = str(_evaluation_path(base, "topics", file))
    try:
        # One function under three names, twice with its arguments swapped.
        if load := getattr(base, "load_topics_from_file", None) or getattr(
            base, "load_topics_with_reader", None
        ):
            records = load(path, reader)
        else:
            records = base.get_topics_with_reader(reader, path)
    except Exception as error:
        raise InputError(f"{path}: cannot be read ({_one_line(error)}); remove it and try again") from None
    if not records:
        raise InputError(f"{path}: holds no topics; remove it and try again")
    by_id = {str(key): record for key, record in records.items()}
    topics = {}
    for key in _sorted_ids(by_id):
        answers = by_id[key].get("answers")
        topics[key] = Topic(key, str(by_id[key]["title"]), parse_answers(answers) if answers else ())
    return topics


def load_qrels(name: str) -> Qrels:
    """Return judgements that Pyserini knows by name (``dl19-passage``); errors as :func:`load_topics`."""
    base = _pyserini("pyserini.search._base")
    file, _ = _evaluation_entry(base, "qrels", name)
    return read_qrels(str(_evaluation_path(base, "qrels", file)))


def _evaluation_entry(base: ModuleType, kind: Kind, name: str) -> tuple[str, str]:
    """Return (file name, Java class of its reader) of topics or qrels; qrels have no reader."""
    mapping: Mapping[str, Any] | None = getattr(base, f"{kind}_mapping", None)
    if mapping is None:
        try:
            # Since 2.4 the list itself comes from the network.
            mapping = getattr(base, f"_get_{kind}_mapping")()
        except (AttributeError, OSError):
            mapping = OFFLINE[kind]
    known = same_name(name, mapping)
    if known is None:
        raise InputError(f"{kind} {name!r}: neither a file nor a known name{suggestion(name, mapping)}")
    entry = mapping[known]
    if isinstance(entry, str):
        return Path(entry).name, ""
    if isinstance(entry, Mapping):
        return Path(entry["path"]).name, entry["reader_class"]
    return Path(entry.path).name, entry.readerClass.getName() if kind == "topics" else ""


def _evaluation_path(base: ModuleType, kind: Kind, file: str) -> Path:
    pinned = getattr(base, f"{kind.upper()}_BASE_URL", None)
    return evaluation_file(kind, file, (pinned + "{file}",) if pinned else ())


def _pyserini_order(topics: Iterable[str], name: str | None) -> list[str]:
    """Return topic ids in the order of Pyserini's ``QueryIterator``."""
    ids = list(topics)
    if name in {
        "msmarco-doc-dev",
        "msmarco-doc-test",
        "msmarco-passage-dev-subset",
        "msmarco-passage-test-subset",
    }:
        fixed = [str(key) for key in _pyserini("pyserini.query_iterator_order_info").QUERY_IDS[name]]
        if set(fixed) == set(ids):
            return fixed
    return _sorted_ids(ids)


def _sorted_ids(ids: Iterable[str]) -> list[str]:
    ids = list(ids)
    # Pyserini makes integers of digit ids; a mixture is sorted as text.
    return sorted(ids, key=int) if all(key.isdecimal() for key in ids) else sorted(ids)


def _pyserini(module: str) -> ModuleType:
    """Start the JVM and import a module of Pyserini, with nothing printed on stdout."""
    jvm.start()
    absent = not os.environ.get("OPENAI_API_KEY")
    if absent:
        os.environ["OPENAI_API_KEY"] = "unused"
    try:
        with _stdout_to_stderr():
            offline.import_catalogue()
            return import_module(module)
    except ImportError as error:
        missing = f"; install it with: pip install {error.name}" if error.name else ""
        raise MissingError(f"Pyserini cannot be imported: {_one_line(error)}{missing}") from None
    finally:
        if absent:
            os.environ.pop("OPENAI_API_KEY", None)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Keep what Pyserini prints out of a run that goes to stdout."""
    with redirect_stdout(sys.stderr):
        yield


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
