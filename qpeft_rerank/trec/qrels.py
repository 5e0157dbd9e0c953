"""Relevance judgements in TREC's four columns."""

from collections.abc import Mapping

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.answer_lists import short
from qpeft_rerank.trec.lines import ZERO_BYTE, display_name, read_lines
from qpeft_rerank.trec.output import write_lines

Qrels = dict[str, dict[str, int]]
"""Topic id -> docid -> grade (0 = judged, not relevant), both in file order."""

_COLUMNS = "topic 0 docid grade"
_LARGEST = 10_000  # trec_eval reserves memory for every grade up to the highest


def read_qrels(path: str) -> Qrels:
    """Read TREC qrels (four columns, any white space, blank lines skipped; ``.gz``, ``-`` = stdin).

    A line that repeats an earlier judgement is harmless. :class:`InputError` with file and line for
    a malformed line, a grade that is no whole number, two different grades of one docid, and a file
    without any line.
    """
    qrels: Qrels = {}
    number = 0
    for number, line in read_lines(path):
        columns = line.split()
        if not columns:
            continue
        where = f"{display_name(path)}:{number}"
        if len(columns) == 3:
            raise InputError(
                f"{where}: 3 columns where TREC qrels have 4 ({_COLUMNS}); insert the second, without any header: "
                "awk '$3 ~ /[0-9]/ {print $1, 0, $2, $3}'"
            )
        if len(columns) != 4:
            raise InputError(f"{where}: expected 4 columns ({_COLUMNS}), found {len(columns)}; mend the line")
        topic, _, docid, text = columns
        try:
            if "_" in text:  # which Python would skip
                raise ValueError
            grade = int(text)
        except ValueError:
            raise InputError(f"{where}: grade {short(text)} is no whole number; columns are {_COLUMNS}") from None
        if "\0" in line:
            raise InputError(f"{where}: {ZERO_BYTE}")
        if abs(grade) > _LARGEST:
            raise InputError(f"{where}: grade {short(grade)} is beyond {_LARGEST}; columns are {_COLUMNS}")
        if qrels.setdefault(topic, {}).setdefault(docid, grade) != grade:
            raise InputError(
                f"{where}: docid {docid} of topic {topic} was graded {qrels[topic][docid]} before; keep one"
            )
    if not qrels:
        raise InputError(f"{display_name(path)}:{max(number, 1)}: no judgements; expected {_COLUMNS}")
    return qrels


def write_qrels(path: str, qrels: Mapping[str, Mapping[str, int]]) -> None:
    """Write qrels, whole or not at all (``.gz``; ``-`` = stdout).

    The format cannot hold a topic without judgements, so such a topic is not in the file.
    """
    write_lines(
        path,
        (f"{topic} 0 {docid} {grade}\n" for topic, judgements in qrels.items() for docid, grade in judgements.items()),
    )
