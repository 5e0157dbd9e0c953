"""What a job that was stopped just before its run was written left behind, which the same command may write again.

A file is told by its beginning, so that one which no job wrote is never replaced unasked.
"""

import json
from itertools import islice

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.lines import read_lines

_SCORE = {"qid", "docid", "sum", "mean", "tokens", "truncated"}
# The title is among a page's first lines.
_HEAD = 12


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
