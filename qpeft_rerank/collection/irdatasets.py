"""Topics, qrels and passages of ``ir_datasets``, by ids such as ``ir_datasets:msmarco-passage/trec-dl-2019``.

The only file that imports ir_datasets, an optional dependency. Its data are downloaded by itself, into
``$IR_DATASETS_HOME`` or ``~/.ir_datasets``.
"""

import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from qpeft_rerank.collection.names import suggestion
from qpeft_rerank.collection.passages import TEXT_FIELDS, Passage, passage_from_record
from qpeft_rerank.errors import InputError, MissingError, first_line
from qpeft_rerank.trec.qrels import Qrels
from qpeft_rerank.trec.topics import Topic, topic_fault

PREFIX = "ir_datasets:"


def is_named(name: str | None) -> bool:
    """Tell whether a name is an id of ir_datasets."""
    return name is not None and name.startswith(PREFIX)


def load_topics(name: str) -> dict[str, Topic]:
    """The topics of a data set in its order, with their answers where it has them.

    :raises InputError: for an unknown id, a data set without queries, an id twice, and what a file of topics may not hold.
    """
    topics: dict[str, Topic] = {}
    with _reading(name):
        for query in _loaded(name, "queries", "topics").queries_iter():
            # Of TREC's title, description and narrative the library's default is the title.
            text = query.default_text() if hasattr(query, "default_text") else query.text
            answers = getattr(query, "answers", ())
            topic = Topic(str(query.query_id), text.strip(), tuple(map(str, answers)))
            if fault := topic_fault(topic):
                raise InputError(f"{name}: {fault}")
            if topics.setdefault(topic.id, topic) is not topic:
                raise InputError(f"{name}: topic {topic.id} occurs twice")
    if not topics:
        raise InputError(f"{name}: has no topics")
    return topics


def load_qrels(name: str) -> Qrels:
    """The judgements of a data set.

    :raises InputError: for an unknown id, a data set without qrels, two grades of one passage.
    """
    qrels: Qrels = {}
    with _reading(name):
        for judged in _loaded(name, "qrels", "qrels").qrels_iter():
            topic, docid, grade = str(judged.query_id), str(judged.doc_id), int(judged.relevance)
            if qrels.setdefault(topic, {}).setdefault(docid, grade) != grade:
                raise InputError(f"{name}: docid {docid} of topic {topic} has two grades; give a qrels file with one")
    if not qrels:
        raise InputError(f"{name}: has no judgements")
    return qrels


class IrPassages:
    """The passages of a data set, looked up by id; the library builds its store at the first look.

    :raises InputError: for an unknown id, and a data set without passages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._data = _loaded(name, "docs", "passages")
        self._store: Any = None

    def prepare(self, docids: Sequence[str]) -> None:
        """Nothing to do: the store reads single passages."""

    def fetch(self, docids: Sequence[str]) -> dict[str, Passage]:
        """Return the passages that exist among ``docids``."""
        with _reading(self.name):
            if self._store is None:
                self._store = self._data.docs_store()
            found = self._store.get_many(list(docids))
        return {docid: _passage(docid, found[docid]) for docid in docids if docid in found}


def _passage(docid: str, document: Any) -> Passage:
    record = {field: value for field, value in document._asdict().items() if isinstance(value, str)}
    if any(field in record for field in TEXT_FIELDS):
        return passage_from_record(docid, record)
    if hasattr(document, "default_text"):
        return Passage(docid, "", document.default_text())
    return passage_from_record(docid, record)  # whose message names the fields that there are


def _loaded(name: str, kind: str, called: str) -> Any:
    """The data set of a name, which must have ``kind``: docs, queries or qrels."""
    try:
        import ir_datasets
    except ImportError:
        raise MissingError(
            f"{name}: ir_datasets is not installed; run: pip install qpeft_rerank[ir_datasets]"
        ) from None
    id_ = name.removeprefix(PREFIX)
    try:
        data = ir_datasets.load(id_)
    except KeyError:
        raise InputError(f"{name}: ir_datasets has no such data set{suggestion(id_, ir_datasets.registry)}") from None
    if not data.has(kind):
        raise InputError(f"{name}: this data set has no {called}; give the id of one that has")
    return data


@contextmanager
def _reading(name: str) -> Iterator[None]:
    """Turn what a download or a broken file raises into one line."""
    try:
        yield
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        AssertionError,
        zlib.error,
    ) as error:  # of requests, lz4, and its own
        raise InputError(
            f"{name}: ir_datasets cannot read it ({first_line(error)}); check the network, or what "
            "`ir_datasets export` says of it"
        ) from None
