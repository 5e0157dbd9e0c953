"""The shapes in which topics come, each read into raw records with their lines.

No record is judged here: :mod:`qpeft_rerank.trec.topics` checks ids and texts, the same for all.
"""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import parse_json
from qpeft_rerank.trec.answer_lists import parse_answers, short, strings
from qpeft_rerank.trec.lines import unquote

# What an id is called, as a key and in headers, the likeliest first; but for _id, in lower case and without punctuation.
_ID_NAMES = ("id", "qid", "_id", "queryid", "questionid", "topicid", "tid", "topicnumber", "number", "num")
# Of what a key may name the id that is no topic's.
_OTHERS_IDS = ("doc", "passage", "psg", "pid", "page", "title", "wiki", "article", "answer")
_TEXT_KEYS = ("question", "query", "text", "title")
_ANSWER_KEYS = ("answers", "answer")
# How headers name the two columns of id<TAB>text, written so. As a key, "topic" may be a text.
_ID_COLUMNS = ("topic", *_ID_NAMES)
_TEXT_COLUMNS = (*_TEXT_KEYS, "questions", "queries", "querytext", "questiontext", "topictext")

# How a list of strings begins.
_STRINGS = ("['", '["')
# Classic TREC topics close few of their tags: a field ends where a tag or, for the number, the line does.
_TOP = re.compile(r"<top>", re.IGNORECASE)
_NUM = re.compile(r"<num>\s*(?:Number:)?([^<\n]*)", re.IGNORECASE)
_TITLE = re.compile(r"<title>\s*(?:Topic:)?(.*?)(?=</?[a-z]+>|\Z)", re.IGNORECASE | re.DOTALL)

Lines = list[tuple[int, str]]
"""Numbered lines that are not blank."""


@dataclass(frozen=True, slots=True)
class Record:
    """What one place of a file says of a topic; ``id`` is ``None`` where the position is the id."""

    line: int
    id: str | None
    text: str
    answers: tuple[str, ...] = ()


class FormatError(Exception):
    """A fault at a line (``args`` = line, message); the caller knows the file."""


def choose(path: str, lines: Lines) -> Callable[[Lines], Iterator[Record]]:
    """Return the reader for a file of this name and content.

    The content decides, as DPR's and TREC's own files are all called ``.txt``; the name decides
    where the content could be read both ways.
    """
    name = path.removesuffix(".gz").lower()
    first = lines[0][1].strip()
    if name.endswith(".jsonl"):
        return read_json_lines
    if first.startswith(("{", "[")) and not name.endswith((".tsv", ".csv")):
        return _choose_json(name, first, lines)
    if name.endswith(".json"):
        return read_json
    if first.startswith("<"):
        return read_trec
    return read_dpr if _is_dpr(lines) else read_tsv


def read_tsv(lines: Lines) -> Iterator[Record]:
    """``id<TAB>text``; a further tab is white space of the text, unless all lines have it.

    A first line that names the columns is left out, and of more than two only those of id and text are read. Without it,
    more than two are refused: read as text, the third would be part of every query.
    """
    # Last cells may be empty, in all lines or in some.
    filled, cells_each = {line.rstrip().count("\t") for _, line in lines}, {line.count("\t") for _, line in lines}
    others = False
    for place, (number, line) in enumerate(lines):
        id_, *cells = line.split("\t")
        if not cells:
            raise FormatError(number, "no tab; expected id<TAB>query")
        if place == 0 and _column(id_) in _ID_COLUMNS and _column(cells[0]) in _TEXT_COLUMNS:
            others = len(cells) > 1
            continue
        if place == 0 and len(lines) > 1 and max(filled) > 1 and 1 in (len(filled), len(cells_each)):
            raise FormatError(
                number,
                f"{max(filled) + 1} columns, and topics have 2; name them in a first line (qid<TAB>query<TAB>...), or take two "
                "(cut -f1,2)",
            )
        yield Record(number, id_, cells[0] if others else " ".join(cells))


def _column(cell: str) -> str:
    """The name of a column, however it is written: ``query-id``, ``"Query ID"``, ``#query_id``."""
    return re.sub(r"[\W_]", "", cell).lower()


def _is_dpr(lines: Lines) -> bool:
    """Whether the first line ends in a list of strings; a query may stand in brackets, too, but so do not all."""
    cells = [unquote(line.partition("\t")[2].strip()) for _, line in lines]
    if not (cells[0].startswith("[") and cells[0].endswith("]")):
        return False
    listed = all(cell.startswith("[") and cell.endswith("]") for cell in cells)
    return cells[0].startswith(_STRINGS) or (listed and any(cell.startswith(_STRINGS) for cell in cells))


def read_dpr(lines: Lines) -> Iterator[Record]:
    """DPR's ``question<TAB>['an answer', …]``, cells possibly quoted as in CSV; ids are positions."""
    for number, line in lines:
        cells = line.split("\t")
        if len(cells) != 2:
            raise FormatError(number, f"expected question<TAB>[answers], found {len(cells)} column(s)")
        question, answers = (unquote(cell.strip()) for cell in cells)
        yield Record(number, None, question, _answers(number, answers))


def read_json_lines(lines: Lines) -> Iterator[Record]:
    """One JSON object a line."""
    for number, line in lines:
        yield _record(number, _parse(line, number))


def read_json(lines: Lines) -> Iterator[Record]:
    """One JSON value: a list of records, or an object from id to text or to a record."""
    kept = dict(lines)
    # Blank lines were dropped; put them back, so that a position tells its line.
    text = "\n".join(kept.get(number, "") for number in range(1, lines[-1][0] + 1))
    try:
        data = parse_json(text, object_pairs_hook=_Pairs)
    except json.JSONDecodeError as error:
        raise FormatError(error.lineno, f"broken JSON ({error.msg}); mend it") from None
    except (ValueError, RecursionError):  # a number of thousands of digits; brackets a thousand deep
        raise FormatError(lines[0][0], "JSON too deep or with huge numbers; expected a list of topics") from None
    if isinstance(data, _Pairs):
        yield from _from_pairs(data, text)
        return
    if not isinstance(data, list):
        raise FormatError(lines[0][0], "expected a JSON list of topics or an object from id to text")
    cursor = _Cursor(text)
    for item in data:
        yield _record(cursor.pass_value(), item)


def read_trec(lines: Lines) -> Iterator[Record]:
    """Classic TREC topics: ``<top>`` with ``<num> Number: 1`` and ``<title> …``."""
    blocks: list[tuple[int, list[str]]] = []
    for number, line in lines:
        before, *opened = _TOP.split(line)
        if blocks:
            blocks[-1][1].append(before)
        elif before.strip():
            raise FormatError(number, "expected <top>; for other XML write the topics as id<TAB>query")
        blocks += [(number, [part]) for part in opened]
    for number, parts in blocks:
        block = "\n".join(parts)
        found = _NUM.search(block)
        if not found or not found[1].strip():
            raise FormatError(number, "topic without <num>; add its number")
        title = _TITLE.search(block)
        id_ = found[1].strip()
        # Early topics are numbered 051, and judged as 51; Pyserini reads a number, too.
        yield Record(
            number, id_.lstrip("0") or "0" if id_.isdecimal() else id_, " ".join(title[1].split()) if title else ""
        )


def _answers(line: int, value: Any) -> tuple[str, ...]:
    try:
        return parse_answers(value) if isinstance(value, str) else strings(value)
    except InputError as error:
        raise FormatError(line, str(error)) from None


class _Cursor:
    """Walks over the values inside one valid JSON list or object, to tell on which line each starts."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = len(text) - len(text.lstrip())
        self.line = 1 + text.count("\n", 0, self._position)
        self._position += 1  # the opening bracket

    def pass_value(self) -> int:
        """Step over the next key or value and return the line it starts on."""
        start = self._position
        while self._text[start] in " \t\r\n,:":
            start += 1
        line = self.line + self._text.count("\n", self._position, start)
        _, self._position = json.JSONDecoder().raw_decode(self._text, start)
        self.line = line + self._text.count("\n", start, self._position)
        return line


class _Pairs(list[tuple[str, Any]]):
    """A JSON object with its keys as written, so that a key given twice is seen."""


def _record(line: int, item: Any) -> Record:
    """Read one JSON object as a topic."""
    if isinstance(item, _Pairs):
        item = dict(item)
    if not isinstance(item, dict):
        raise FormatError(line, f"expected a JSON object, found {short(item)}; write {{id, question}}")
    return Record(line, _id(line, item), _text(line, item), _answers_of(line, item))


def _id(line: int, item: dict[str, Any]) -> str | None:
    places = {key: _ID_NAMES.index(name) for key in item if (name := _id_name(key)) in _ID_NAMES}
    if places:
        key = min(places, key=places.__getitem__)
        if isinstance(item[key], bool) or not isinstance(item[key], str | int):
            raise FormatError(line, f"{key} {short(item[key])} is no string or whole number; write one")
        return str(item[key])
    for key in item:
        name = _column(key)
        if name.endswith("id") and not name.startswith(_OTHERS_IDS):
            # A position in its place would be another topic's id in judgements and runs.
            raise FormatError(line, f"is {short(key)} the topic's id? call it id, or leave it out")
    return None


def _id_name(key: str) -> str:
    return key if key in _ID_NAMES else _column(key)


def _text(line: int, item: dict[str, Any]) -> str:
    for key in _TEXT_KEYS:
        if key in item:
            if not isinstance(item[key], str):
                raise FormatError(line, f"{key} {short(item[key])} is no string; write the query's text")
            return str(item[key])
    raise FormatError(line, f"no query; expected one of the keys {', '.join(_TEXT_KEYS)}")


def _answers_of(line: int, item: dict[str, Any]) -> tuple[str, ...]:
    for key in _ANSWER_KEYS:
        if item.get(key) is not None:
            return _answers(line, item[key])
    return ()


def _from_pairs(pairs: _Pairs, text: str) -> Iterator[Record]:
    """Read an object from id to text or record. A bare record is one topic."""
    cursor = _Cursor(text)
    keys = {key for key, value in pairs if isinstance(value, str | int)}
    if keys.intersection(_TEXT_KEYS) and any(key in _ANSWER_KEYS or _id_name(key) in _ID_NAMES for key, _ in pairs):
        yield _record(cursor.line, pairs)
        return
    for key, value in pairs:
        line = cursor.pass_value()
        cursor.pass_value()
        item = dict(value) if isinstance(value, _Pairs) else {"text": value}
        yield Record(line, key, _text(line, item), _answers_of(line, item))


def _choose_json(name: str, first: str, lines: Lines) -> Callable[[Lines], Iterator[Record]]:
    """Tell JSON lines from one JSON value that may span lines."""
    if first.startswith("["):
        return read_json
    try:
        item = parse_json(first)
    except (ValueError, RecursionError):
        # A broken first line of JSONL, or the opening of an object over several lines.
        return read_json if first == "{" or name.endswith(".json") else read_json_lines
    is_record = any(isinstance(item.get(key), str) for key in _TEXT_KEYS)
    return read_json_lines if len(lines) > 1 or is_record else read_json


def _parse(line: str, number: int) -> Any:
    try:
        return parse_json(line)
    except json.JSONDecodeError as error:
        raise FormatError(number, f"broken JSON ({error.msg}, column {error.colno}); mend the line") from None
    except (ValueError, RecursionError):
        raise FormatError(number, "JSON too deep or its numbers too long; expected a topic") from None
