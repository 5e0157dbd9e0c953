"""TREC runs: read with every fault named, written so that trec_eval sees our order."""

import gc
import os
import re
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf, isfinite
from operator import attrgetter
from typing import NamedTuple

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.answer_lists import short
from qpeft_rerank.trec.lines import ZERO_BYTE, display_name, read_lines
from qpeft_rerank.trec.output import write_lines

# trec_eval's scores are float32.
_LARGEST = 3.4028234663852886e38
_COLUMNS = "topic Q0 docid rank score tag"
# Pyserini's search announces itself on stdout, so this line comes down a pipe ahead of its run.
_NOTICE = re.compile(r"Running .* topics, saving to .*\.\.\.")


class Hit(NamedTuple):
    """One line of a run: a docid, its score, and the rank the file states."""

    docid: str
    score: float
    rank: int


Run = dict[str, list[Hit]]
"""Topics in file order; hits by descending score, ties by stated rank, then by line."""

Scored = tuple[str, float] | Hit
"""What is written of a passage: its docid and score; a rank that it had is not kept."""


def read_run(path: str | os.PathLike[str]) -> Run:
    """Read a TREC run (six columns, any white space, blank lines skipped; ``.gz``, ``-`` = stdin).

    :class:`InputError` with file and line for a malformed line, a score that is not a finite
    number, a docid twice for a topic, and a file without any line.
    """
    with _uncollected():
        return _read(os.fspath(path))


def _read(path: str) -> Run:
    run: dict[str, dict[str, Hit]] = {}
    number = 0
    for number, line in read_lines(path):
        columns = line.split()
        if len(columns) != 6:
            if not columns or _is_notice(line, run):
                continue
            fault = f"expected 6 columns ({_COLUMNS}), found {len(columns)}; "
            raise _fault(path, number, fault + "ids must not contain spaces")
        topic, _, docid, rank, score, _ = columns
        try:
            hit = Hit(docid, float(score), int(rank))
        except ValueError:
            if _is_notice(line, run):
                continue
            raise _not_a_number(path, number, rank, score) from None
        if not abs(hit.score) <= _LARGEST or "_" in score:
            raise _not_a_number(path, number, rank, score)
        if "\0" in line:
            raise _fault(path, number, ZERO_BYTE)
        hits = run.get(topic)
        if hits is None:
            hits = run[topic] = {}
        if hits.setdefault(docid, hit) is not hit:
            raise _fault(path, number, f"docid {docid} occurs twice for topic {topic}; keep one of the lines")
    if not run:
        raise _fault(path, max(number, 1), f"no run lines; expected {_COLUMNS}")
    return {topic: _ordered(list(hits.values())) for topic, hits in run.items()}


@contextmanager
def _uncollected() -> Iterator[None]:
    """Inside the context Python looks for no cycles: among a million new hits that takes a third of the reading."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _is_notice(line: str, run: Mapping[str, object]) -> bool:
    return not run and _NOTICE.fullmatch(line.strip()) is not None


def locate(path: str, topic: str, docid: str | None = None) -> str:
    """Return ``FILE:LINE: `` of the first line with this topic (and docid), for a message; empty for a stream."""
    if os.path.isfile(path):  # a pipe is read once: to open it again would wait for another writer
        for number, line in read_lines(path):
            columns = line.split()
            if len(columns) == 6 and columns[0] == topic and docid in (None, columns[2]):
                return f"{display_name(path)}:{number}: "
    return ""


class UnjoinedError(InputError):
    """A run's topic without text, or (``docid`` not None) a passage that the collection lacks."""

    def __init__(self, topic: str, docid: str | None, message: str) -> None:
        super().__init__(message)
        self.topic = topic
        self.docid = docid


@contextmanager
def located(path: str | None) -> Iterator[None]:
    """Inside the context, what cannot be joined is told with its place in the run's file, if there is one."""
    try:
        yield
    except UnjoinedError as error:
        raise InputError(f"{locate(path, error.topic, error.docid) if path else ''}{error}") from None


def trec_order(scored: Iterable[tuple[str, float]]) -> list[tuple[str, float]]:
    """Return (docid, score) pairs in the order in which trec_eval ranks them.

    trec_eval stores scores as float32 and breaks ties by docid, descending as a string; the
    returned scores are rounded to float32, so that what looks equal is equal. :class:`InputError`
    for a score that is no finite float32.
    """
    pairs = list(scored)
    single = array("f", [score for _, score in pairs])
    if not all(map(isfinite, single)):
        docid, score = next(pair for pair, kept in zip(pairs, single, strict=True) if not isfinite(kept))
        raise InputError(f"docid {docid}: score {score} is not a finite number; it cannot be ranked")
    # Code points order as UTF-8 bytes do, which is what trec_eval's strcmp compares.
    ranked = sorted(zip(single, (docid for docid, _ in pairs), strict=True), reverse=True)
    return [(docid, score) for score, docid in ranked]


def format_run(run: Mapping[str, Sequence[Scored]], tag: str) -> Iterator[str]:
    """Yield the lines of a TREC run from (docid, score) pairs, or hits, per topic.

    Pairs are put in :func:`trec_order` first, so the written rank is the one that trec_eval uses
    whatever the order given; nine significant digits give every float32 back exactly.
    :class:`InputError` for what is no run, a score that is not finite, a docid twice, and an id that is no word.
    """
    _check_word(tag, "the run's tag")
    if not isinstance(run, Mapping):
        raise InputError(f"run: is {type(run).__name__}; give a mapping from topics to (docid, score) pairs")
    for topic, scored in run.items():
        _check_word(topic, "topic id")
        try:
            ordered = trec_order([entry[:2] for entry in scored])
        except InputError as error:
            raise InputError(f"topic {topic}, {error}") from None
        except (TypeError, ValueError, OverflowError):  # docids alone, scores that are texts, or beyond all floats
            raise InputError(f"topic {topic}: give (docid, score) pairs, or hits, of strings and numbers") from None
        _check_docids(topic, [docid for docid, _ in ordered])
        for rank, (docid, score) in enumerate(ordered, 1):
            yield f"{topic} Q0 {docid} {rank} {score:.9g} {tag}\n"


def write_run(path: str | os.PathLike[str], run: Mapping[str, Sequence[Scored]], tag: str) -> None:
    """Write :func:`format_run`'s lines to ``path``, whole or not at all (``.gz``; ``-`` = stdout)."""
    write_lines(os.fspath(path), format_run(run, tag))


def _ordered(hits: list[Hit]) -> list[Hit]:
    # Two stable sorts keep the order of the lines where score and rank are equal.
    hits.sort(key=attrgetter("rank"))
    hits.sort(key=attrgetter("score"), reverse=True)
    return hits


def _check_docids(topic: str, docids: list[str]) -> None:
    try:
        words = " ".join(docids).split() == docids
    except TypeError:  # numbers
        words = False
    if not words:
        for docid in docids:
            _check_word(docid, f"topic {topic}: docid")
    if len(set(docids)) < len(docids):
        docid = next(docid for docid, count in Counter(docids).items() if count > 1)
        raise InputError(f"topic {topic}: docid {docid} occurs twice; rank it once")


def _check_word(word: object, what: str) -> None:
    if not isinstance(word, str):
        raise InputError(f"{what} {word!r} is {type(word).__name__}; give a string")
    if word.split() != [word]:
        raise InputError(f"{what} {word!r} is empty or contains white space; a TREC run cannot hold it")


def _not_a_number(path: str, number: int, rank: str, score: str) -> InputError:
    try:
        if "_" not in score and _LARGEST < abs(float(score)) < inf:
            return _fault(
                path, number, f"score {short(score)} is beyond float32, by which trec_eval ranks; scale the run"
            )
        if "_" not in score and isfinite(float(score)):
            return _fault(path, number, f"rank {short(rank)} is not a whole number; columns are {_COLUMNS}")
    except ValueError:
        pass
    return _fault(path, number, f"score {short(score)} is not a finite number; columns are {_COLUMNS}")


def _fault(path: str, number: int, what: str) -> InputError:
    return InputError(f"{display_name(path)}:{number}: {what}")
