"""What a job that was stopped just before its run was written left behind, which the same command may write again.

A file is told by the job's journal, which names what was being written, and by its own beginning, so that one which no
job wrote, or which has taken the place of such a one, is never replaced unasked.
"""

import json
import os
from itertools import islice
from pathlib import Path

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import parse_json
from qpeft_rerank.likelihood.journal import ANNOUNCED
from qpeft_rerank.trec.lines import read_lines

_SCORE = {"qid", "docid", "sum", "mean", "tokens", "truncated"}
# The title is among a page's first lines.
_HEAD = 12
# Longer than the names of all that one job writes.
_TAIL = 1 << 18


def announced(journal: Path) -> set[str]:
    """The full paths of what a job was writing when it was stopped, by the last line of its journal."""
    try:
        with journal.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            record = parse_json(file.read().removesuffix(b"\n").rpartition(b"\n")[2].decode("ascii"))
        return set(record[ANNOUNCED])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return set()  # none, or stopped before: the journal itself is for its reader to judge


def is_run(path: str, method: str) -> bool:
    """Whether a file is a run of this way of scoring, by the tag of its first line."""
    return [line.split()[5:] for line in _head(path, 1)] == [[method]]


def is_scores(path: str) -> bool:
    """Whether a file is what ``--scores`` writes, by its first line; an empty one tells of no scores."""
    try:
        return all(json.loads(line).keys() == _SCORE for line in _head(path, 1))
    except (ValueError, AttributeError):
        return False


def is_page(path: str, method: str) -> bool:
    """Whether a file is the page of ``--explain`` for this way of scoring, by its title."""
    from markupsafe import escape

    head = _head(path, _HEAD)
    return any(line.startswith("<title>") and line.endswith(f" – {escape(method)}</title>") for line in head)


def _head(path: str, count: int) -> list[str]:
    try:
        return [line for _, line in islice(read_lines(path), count)]
    except InputError:
        return [""]
