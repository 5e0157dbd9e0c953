"""Lucene indexes through Pyserini: open, search, fetch; topics and qrels by name.

The only file that imports Pyserini, inside functions, for it takes ten seconds. What it guards against:

- 2.4 asks the network while it is imported (:mod:`.offline`);
- up to 2.0 the import fails without an ``OPENAI_API_KEY``, though nothing here calls OpenAI;
- an unknown index name, and a download that failed, come back as ``None`` after a line on stdout;
- a docid given as an integer means Lucene's own number: another document, without any error;
- digit topic ids come back as integers, which do not join with a run's;
- an index in another language is searched in English unless it is told (:func:`.names.query_language`), and also
  if it is told one that it does not know;
- the topics reader function was renamed and its arguments swapped;
- the address that topics and qrels are downloaded from no longer exists (:mod:`.evalfiles`).
"""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from functools import cache
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any

from qpeft_rerank.collection import jvm
from qpeft_rerank.collection.building import is_index
from qpeft_rerank.collection.evalfiles import OFFLINE, Kind, evaluation_file, pyserini_cache
from qpeft_rerank.collection.index import LuceneIndex, sorted_ids
from qpeft_rerank.collection.names import (
    ALIASES,
    canonical_index_name,
    check_language,
    query_language,
    same_name,
    suggestion,
)
from qpeft_rerank.collection.offline import answered_offline
from qpeft_rerank.console import unwarned
from qpeft_rerank.errors import InputError, MissingError, first_line, one_line
from qpeft_rerank.trec.answer_lists import parse_answers
from qpeft_rerank.trec.qrels import Qrels, read_qrels
from qpeft_rerank.trec.topics import Topic

# Fields of Pyserini's named topics that hold their text: TREC-COVID's rounds have no title.
_TOPIC_TEXTS = ("title", "query", "question")
# What names of indexes hold of which Pyserini knows docids that a topic must not find.
_BRIGHT = "bright-"


def open_folder(folder: Path, name: str, language: str | None = None) -> LuceneIndex:
    """Open a local index folder under a name for messages; :class:`InputError` if it is none or damaged.

    :param language: in which it is searched; see :func:`open_index`.
    """
    if not is_index(folder):
        raise InputError(f"{folder}: not a Lucene index (no segments file in it); give an index folder")
    searcher_class = _searcher_class()
    try:
        with _stdout_to_stderr():
            searcher = searcher_class(str(folder))
    except Exception as error:
        raise InputError(f"{folder}: this Lucene cannot read the index ({first_line(error)}); build it again") from None
    _speak(searcher, language or "en")
    return LuceneIndex(name, searcher, fixed_order, _excluded(str(folder)))


def open_index(name: str | os.PathLike[str], language: str | None = None) -> LuceneIndex:
    """Open ``embedded``, a local index folder, or a prebuilt index (downloaded by Pyserini on first use).

    Raises :class:`InputError` for a path that is no index, for an unknown name (with the nearest ones),
    and for a download that failed.

    :param language: that the index was made in, a code of :data:`.names.LANGUAGES` such as ``de``: queries become words as
        its texts did. None is that of a prebuilt index, and English.
    """
    name = os.fspath(name)
    if language is not None:
        check_language(language)
    known = check_index(name)
    if known is not None:
        return _open_prebuilt(name, known, language)
    if name == "embedded" and not is_index(Path(name)):
        from qpeft_rerank.collection.embedded import embedded_index

        return embedded_index(language)
    return open_folder(Path(name), name, language)


def check_index(name: str) -> str | None:
    """Refuse a name that is no index, before anything is downloaded; return a prebuilt one's name in Pyserini.

    None for a folder and for ``embedded``, which cost nothing to look at.
    """
    if name == "embedded":
        return None
    if os.path.exists(name):
        if not os.path.isdir(name):
            raise InputError(f"{name}: a file, not an index folder; a passage file is given with --corpus")
        return None
    if os.sep in name or name.startswith((".", "~")):
        raise InputError(f"{name}: no such folder; give an index folder or the name of a prebuilt index")
    catalogue = _catalogue()
    try:
        known = next((n for n in (name, ALIASES.get(name, name)) if n in catalogue), None)
        near = "" if known else suggestion(name, catalogue)
    except (OSError, ValueError, HTTPException) as error:
        # From 2.4 on the list of names is on the network, or what a proxy has in its place.
        raise InputError(
            f"index {name!r}: no such folder, and Pyserini's list of prebuilt indexes cannot be had "
            f"({one_line(error)}); check the network, or give an index folder"
        ) from None
    if known is None:
        raise InputError(f"index {name!r}: neither a folder nor a prebuilt BM25 index{near}")
    return known


def _open_prebuilt(name: str, known: str, language: str | None) -> LuceneIndex:
    searcher_class, entry = _searcher_class(), _catalogue()[known]
    folder = pyserini_cache() / "indexes"
    try:
        with _stdout_to_stderr():
            searcher = searcher_class.from_prebuilt_index(known)
        fault = "" if searcher is not None else "no address answered"
    except ValueError as error:
        # Present but other than expected: Pyserini would refuse it for ever.
        raise InputError(
            f"index {known}: {one_line(error)} Remove {folder / _unpacked_name(entry)} and try again"
        ) from None
    except Exception as error:
        # Pyserini reports a wrong size or checksum as AssertionError and HTTP errors as a missing file.
        fault = first_line(error)
    if fault:
        raise InputError(
            f"index {known}: the download of {entry['urls'][0]} failed ({fault}); check the network, or unpack "
            f"the index by hand as {folder / _unpacked_name(entry)}"
        )
    _speak(searcher, language or query_language(known))
    return LuceneIndex(canonical_index_name(name), searcher, fixed_order, _excluded(name))


def _speak(searcher: Any, language: str) -> None:
    # As Pyserini's command line: of English there is nothing to set.
    if language != "en":
        searcher.set_language(language)


def _excluded(name: str) -> Callable[[], Mapping[str, Collection[str]]]:
    """What tells the docids that each topic of an index leaves out: three sets of BRIGHT have such, by their names."""

    @cache
    def look() -> Mapping[str, Collection[str]]:
        try:
            with _stdout_to_stderr(), unwarned():
                found = _search_base().get_bright_excluded_ids(name)
            return {str(topic): {str(docid) for docid in docids} for topic, docids in found.items()}
        except Exception as error:  # of the hub, or of whichever library carries it
            raise InputError(
                f"index {name}: which passages its topics leave out cannot be had ({one_line(error)}); check the network, "
                "or give a run with --run"
            ) from None

    return look if _BRIGHT in name else dict


def _unpacked_name(entry: Mapping[str, Any]) -> str:
    file = str(entry.get("filename") or entry["urls"][0].rsplit("/", 1)[-1])
    return f"{file.split('.tar')[0]}.{entry['md5']}"


def load_topics(name: str) -> dict[str, Topic]:
    """Return a topic set that Pyserini knows by name (``dpr-nq-test`` or ``dpr.nq.test``), ids as strings.

    Raises :class:`InputError` for an unknown name (with the nearest ones) and for a failed download,
    naming the folder where the file can be put by hand.
    """
    base = _search_base()
    file, reader = _evaluation_entry(base, "topics", name)
    path = str(_evaluation_path(base, "topics", file))
    try:
        # One function under three names, twice with its arguments swapped.
        if load := getattr(base, "load_topics_from_file", None) or getattr(base, "load_topics_with_reader", None):
            records = load(path, reader)
        else:
            records = base.get_topics_with_reader(reader, path)
    except Exception as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); remove it and try again") from None
    if not records:
        raise InputError(f"{path}: holds no topics; remove it and try again")
    by_id = {str(key): record for key, record in records.items()}
    topics = {}
    for key in sorted_ids(by_id):
        record = by_id[key]
        text, answers = next((record[name] for name in _TOPIC_TEXTS if record.get(name)), None), record.get("answers")
        if text is None:
            raise InputError(f"topics {name}: topic {key} has no text, but {', '.join(record)}; give topics of words")
        topics[key] = Topic(key, str(text), parse_answers(answers) if answers else ())
    return topics


def load_qrels(name: str) -> Qrels:
    """Return judgements that Pyserini knows by name (``dl19-passage``); errors as :func:`load_topics`."""
    base = _search_base()
    file, _ = _evaluation_entry(base, "qrels", name)
    return read_qrels(str(_evaluation_path(base, "qrels", file)))


def _evaluation_entry(base: ModuleType, kind: Kind, name: str) -> tuple[str, str]:
    """Return (file name, Java class of its reader) of topics or qrels; qrels have no reader."""
    mapping: Mapping[str, Any] | None = getattr(base, f"{kind}_mapping", None)
    if mapping is None:
        try:
            # Since 2.4 the list itself comes from the network.
            mapping = getattr(base, f"_get_{kind}_mapping")()
        except (AttributeError, OSError, ValueError, HTTPException):
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


def fixed_order(name: str) -> list[str]:
    """Return the topic ids of one of :data:`.index.FIXED_ORDER` in the order of its file."""
    with _importing():
        from pyserini.query_iterator_order_info import QUERY_IDS
    return [str(key) for key in QUERY_IDS[name]]


def _searcher_class() -> Any:
    with _importing():
        from pyserini.search.lucene import LuceneSearcher
    return LuceneSearcher


def _catalogue() -> Mapping[str, Any]:
    """Return Pyserini's prebuilt BM25 indexes by name."""
    with _importing():
        from pyserini.prebuilt_index_info import TF_INDEX_INFO
    catalogue: Mapping[str, Any] = TF_INDEX_INFO
    return catalogue


def _search_base() -> ModuleType:
    with _importing():
        import pyserini.search._base as base
    module: ModuleType = base
    return module


@contextmanager
def _importing() -> Iterator[None]:
    """Start the JVM, and let the block import a module of Pyserini with nothing printed on stdout."""
    jvm.start()
    absent = not os.environ.get("OPENAI_API_KEY")
    if absent:
        os.environ["OPENAI_API_KEY"] = "unused"
    try:
        with _stdout_to_stderr(), answered_offline(), unwarned():
            yield
    except ImportError as error:
        missing = f"; install it with: pip install {error.name}" if error.name else ""
        raise MissingError(f"Pyserini cannot be imported: {one_line(error)}{missing}") from None
    finally:
        if absent:
            os.environ.pop("OPENAI_API_KEY", None)


@contextmanager
def _stdout_to_stderr() -> Iterator[None]:
    """Keep what Pyserini prints out of a run that goes to stdout."""
    with redirect_stdout(sys.stderr):
        yield
