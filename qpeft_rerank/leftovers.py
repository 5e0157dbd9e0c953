"""What a job that was stopped just before its run was written left behind, which the same command may write again."""

import os
from pathlib import Path

from qpeft_rerank.files import parse_json
from qpeft_rerank.likelihood.journal import ANNOUNCED

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
