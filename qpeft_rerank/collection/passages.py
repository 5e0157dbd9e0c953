"""A passage, and how one is read from the JSON shapes that collections use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from qpeft_rerank.collection.markup import is_marked_up, plain, title_and_text
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import parse_json
from qpeft_rerank.trec.lines import is_text

# In order of preference; MS MARCO v2 says "passage", its segmented documents and TREC RAG say "segment".
TEXT_FIELDS = ("text", "contents", "passage", "segment", "body", "content")
# A passage's before its document's, which MS MARCO v2's passages name, too.
ID_FIELDS = ("id", "_id", "pid", "passage_id", "docid", "doc_id", "docno")
# Kinds of a list's pieces that are text; others are the title again, by whom, when, and pictures.
_PIECES = ("sanitized_html", "tweet")

#: What may be done about a passage that a collection lacks: stop, or leave it in the run's tail.
MISSING = ("strict", "skip")


@dataclass(frozen=True, slots=True)
class Passage:
    """One passage; ``title`` is empty where the collection has none, and ``text`` may be empty.

    :raises InputError: for a title or a text that is no string, as of a table's empty cell.
    """

    docid: str
    title: str
    text: str

    def __post_init__(self) -> None:
        if not isinstance(self.title, str) or not isinstance(self.text, str):
            field, value = ("text", self.text) if isinstance(self.title, str) else ("title", self.title)
            raise InputError(
                f"passage {self.docid!r}: its {field} is {type(value).__name__}; give a string, '' for none"
            )


class Passages(Protocol):
    """Where passages come from: a Lucene index or a file."""

    name: str
    """How messages call this source."""

    def prepare(self, docids: Sequence[str]) -> None:
        """Say which ids will be asked for, so that a file is read once; may be called again with more."""

    def fetch(self, docids: Sequence[str]) -> dict[str, Passage]:
        """Return the passages that exist among ``docids``, keyed by docid; absent ids are left out."""


@runtime_checkable
class Surveyed(Protocol):
    """Passages that can tell what they lack at far less than the cost of fetching; not every source can."""

    def first_absent(self, docids: Sequence[str]) -> str | None:
        """Return the first of ``docids`` (each once) that is not there; None if all are, or it takes fetching to tell.

        As :meth:`Passages.prepare`, it says which ids will be asked for.
        """


def passage_from_raw(docid: str, raw: str) -> Passage:
    """Read what a collection stored for ``docid``: a JSON record, a document in SGML or HTML, or else plain text.

    Of TREC's newswire Anserini stores the document as it is, and of web pages; a model is to read no tags
    (:func:`.markup.title_and_text`). Raises :class:`InputError` for a JSON record that holds no text.
    """
    if raw.lstrip().startswith("{"):
        try:
            record = parse_json(raw)
        except (ValueError, RecursionError):
            return Passage(docid, "", raw)
        return passage_from_record(docid, record)
    return Passage(docid, *(title_and_text(raw) if is_marked_up(raw) else ("", raw)))


def passage_from_record(docid: str, record: Mapping[str, Any]) -> Passage:
    """Read a JSON record of any of the usual shapes.

    - BEIR, KILT and other wiki corpora: ``title`` and ``text`` are taken as they are.
    - ``contents`` (or ``passage``, ``segment``, ``body``, ``content``): the text; MS MARCO v1 has
      nothing else. Its first line is a title in two cases only: it is wrapped in double quotes
      (``"Title"⏎text``, wikipedia-dpr-100w), or it repeats the record's own ``title``. Any other
      first line belongs to the text, for nothing tells it from a short first sentence. The split
      is at the first newline; later ones stay.
    - The Washington Post: ``contents`` is a list of ``{"type", "content"}``. Its paragraphs and tweets, which Anserini
      indexes, are the text, a line each, without tags.

    Raises :class:`InputError` when there is no text field or it is not a string.
    """
    field = next((name for name in TEXT_FIELDS if name in record), None)
    if field is None:
        keys = ", ".join(sorted(map(str, record))) or "none"
        raise InputError(f"passage {docid!r} has no text; add a field 'contents' or 'text' (fields: {keys})")
    text = _paragraphs(record[field])
    title = record.get("title")
    if title is None:
        title = ""
    for key, value in ((field, text), ("title", title)):
        if not isinstance(value, str):
            raise InputError(f"passage {docid!r}: field {key!r} is {type(value).__name__}; it must be a string")
        if not is_text(value):
            raise InputError(f"passage {docid!r}: field {key!r} has half a surrogate pair; mend the escape")
    if field == "contents":
        title, text = _split_contents(title, text)
    return Passage(docid, title, text)


def _paragraphs(contents: Any) -> Any:
    """The text of a list of pieces; what is none is given back, to be judged."""
    if not isinstance(contents, list) or not any(isinstance(piece, Mapping) for piece in contents):
        return contents
    pieces = [piece for piece in contents if isinstance(piece, Mapping) and piece.get("type", _PIECES[0]) in _PIECES]
    texts = [piece["content"] for piece in pieces if isinstance(piece.get("content"), str)]
    return "\n".join(filter(None, map(plain, texts)))


def record_id(record: Mapping[str, Any]) -> str | None:
    """Return the record's id as a string (whole numbers too), or ``None`` if it has none."""
    for name in ID_FIELDS:
        value = record.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
    return None


def _split_contents(title: str, contents: str) -> tuple[str, str]:
    first, newline, rest = contents.partition("\n")
    if not newline:
        return title, contents
    line = first.strip()
    if len(line) >= 2 and line[0] == line[-1] == '"':
        # Titles that hold quotes were doubled when the collection went through CSV.
        return title or line[1:-1].replace('""', '"').strip(), rest
    if title and line == title.strip():
        return title, rest
    return title, contents
