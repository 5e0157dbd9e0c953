"""Passages of what your own Pyserini searcher found."""

from typing import Any, Protocol, TypeGuard

from qpeft_rerank.collection.passages import Passage, passage_from_raw, passage_from_record
from qpeft_rerank.errors import InputError


class Found(Protocol):
    """One of Pyserini's search hits (``ScoredDoc``), or its ``Document``, which has a method where a hit has a field."""

    lucene_document: Any


def is_found(given: object) -> TypeGuard[Found]:
    """Whether something is such a hit or document; hits of dense searchers hold none."""
    return hasattr(given, "lucene_document")


def passage_from_hit(found: Found) -> Passage:
    """Read the passage that the hit's index stores.

    :raises InputError: if it stores no text.
    """
    document = found.lucene_document() if callable(found.lucene_document) else found.lucene_document
    docid = str(document.get("id"))
    return stored_passage(docid, document, f"passage {docid}: its index", "texts")


def stored_passage(docid: str, document: Any, index: str, instead: str) -> Passage:
    """What an index stores of a passage, whole or, where it stores nothing else, its contents.

    :param document: of Lucene's or Pyserini's, which ``get`` asks for a field.
    :param index: what a message calls the index; ``instead``: what it advises to give.
    :raises InputError: if it stores neither.
    """
    if (raw := document.get("raw")) is not None:
        return passage_from_raw(docid, raw)
    if (contents := document.get("contents")) is not None:
        return passage_from_record(docid, {"contents": contents})
    raise InputError(
        f"{index} stores no passage text (a -slim index, or built without --storeRaw); use the full index, or give "
        f"{instead}"
    )
