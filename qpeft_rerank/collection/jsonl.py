"""Passages from a JSONL or TSV file, larger than memory if need be: only wanted ones are kept."""

import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

from qpeft_rerank.collection.passages import ID_FIELDS, TEXT_FIELDS, Passage, passage_from_record, record_id
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import parse_json
from qpeft_rerank.trec.lines import read_lines, unquote


class CorpusFile:
    """A passage file, plain or ``.gz``: JSON lines, ``id⇥text``, or DPR's ``id⇥text⇥title`` with its header.

    The first line tells which: ``{`` opens JSON, a line ``id⇥text[⇥title]`` is a header (columns in
    any order, fields quoted as in DPR's psgs_w100.tsv), anything else is ``id⇥text`` taken verbatim
    as in MS MARCO's collection.tsv.

    The file is streamed once for each :meth:`prepare` that names new ids; memory holds the wanted
    passages only. Duplicates are noticed among wanted ids.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        if self.path == "-":
            raise InputError("--corpus - : passages are read by id and cannot come from stdin; give a file")
        self.name = self.path
        self._kept: dict[str, Passage] = {}
        self._looked_for: set[str] = set()

    def prepare(self, docids: Sequence[str]) -> None:
        """Read the file and keep the passages named; ids that were looked for before cost nothing."""
        wanted = set(docids) - self._looked_for
        if not wanted:
            return
        found_at: dict[str, int] = {}
        for lineno, docid, record in self._records():
            if docid not in wanted:
                continue
            if docid in found_at:
                raise InputError(
                    f"{self.path}:{lineno}: passage {docid!r} is also on line {found_at[docid]}; keep one of them"
                )
            found_at[docid] = lineno
            try:
                self._kept[docid] = passage_from_record(docid, record)
            except InputError as error:
                raise InputError(f"{self.path}:{lineno}: {error}") from None
        self._looked_for |= wanted

    def first_absent(self, docids: Sequence[str]) -> str | None:
        """Return the first of ``docids`` that the file lacks; it is read as by :meth:`prepare`."""
        self.prepare(docids)
        return next((docid for docid in docids if docid not in self._kept), None)

    def fetch(self, docids: Sequence[str]) -> dict[str, Passage]:
        """Return the passages that exist among ``docids``; unprepared ids cost one more pass over the file."""
        self.prepare(docids)
        return {docid: self._kept[docid] for docid in docids if docid in self._kept}

    def __iter__(self) -> Iterator[Passage]:
        """Yield every passage in file order, keeping none."""
        for lineno, docid, record in self._records():
            try:
                yield passage_from_record(docid, record)
            except InputError as error:
                raise InputError(f"{self.path}:{lineno}: {error}") from None

    def _records(self) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Yield (line number, docid, record) for every line that is not blank."""
        columns: list[str] | None = None
        is_json: bool | None = None
        for lineno, line in read_lines(self.path, texts=True):
            if not line.strip():
                continue
            if is_json is None:
                is_json = line.lstrip().startswith("{")
                try:
                    columns = None if is_json else _header(line)
                except InputError as error:
                    raise InputError(f"{self.path}:{lineno}: {error}") from None
                if columns is not None:
                    continue
            if is_json:
                record, docid = self._json(lineno, line)
            else:
                record, docid = self._tsv(lineno, line, columns)
            yield lineno, docid, record
        if is_json is None:
            raise InputError(f"{self.path}: no passages in it; expected JSON lines or id<TAB>text")

    def _json(self, lineno: int, line: str) -> tuple[dict[str, Any], str]:
        try:
            record = parse_json(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{self.path}:{lineno}: broken JSON ({error.msg} at column {error.colno}); one record a line"
            ) from None
        except (ValueError, RecursionError):  # a number of thousands of digits; brackets a thousand deep
            raise InputError(f"{self.path}:{lineno}: JSON too deep or its numbers too long; mend the record") from None
        if not isinstance(record, dict):
            raise InputError(f"{self.path}:{lineno}: not a JSON object; expected {{'id': ..., 'contents': ...}}")
        docid = record_id(record)
        if docid is None:
            raise InputError(f"{self.path}:{lineno}: record without an id; add a field 'id' (a string or integer)")
        return record, docid

    def _tsv(self, lineno: int, line: str, columns: list[str] | None) -> tuple[dict[str, Any], str]:
        if lineno == 1 and line.lstrip().startswith("[") and "\t" not in line:
            raise InputError(f"{self.path}:1: a JSON list; write one record a line (jq -c '.[]')")
        cells = line.split("\t")
        expected = columns or ["id", "text"]
        if len(cells) != len(expected):
            if columns is None and len(cells) == 3:
                fix = "a file with titles needs the header line id<TAB>text<TAB>title"
            else:
                fix = "expected " + "<TAB>".join(expected)
            raise InputError(f"{self.path}:{lineno}: {len(cells)} tab-separated columns; {fix}")
        if columns is not None:
            cells = [unquote(cell) for cell in cells]
        record: dict[str, Any] = dict(zip(expected, cells, strict=True))
        docid = record["id"].strip()
        if not docid:
            raise InputError(f"{self.path}:{lineno}: empty passage id; the first column must name the passage")
        return record, docid


def _header(line: str) -> list[str] | None:
    names = [cell.strip().lower() for cell in line.split("\t")]
    names = ["id" if name in ID_FIELDS else name for name in names]
    if "text" not in names:
        # As in JSON, where the first of these that is there holds the text.
        text = next((name for name in TEXT_FIELDS if name in names), None)
        names = ["text" if name == text else name for name in names]
    if "id" not in names or "text" not in names:
        return None
    if names.count("id") + names.count("text") > 2:
        raise InputError("the header names two columns of ids or of texts; keep one of each")
    return names
