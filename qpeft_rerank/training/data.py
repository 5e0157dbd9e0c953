"""Read training files as a stream: mined JSONL, and DPR's biencoder JSON (one array of gigabytes)."""

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import parse_json
from qpeft_rerank.training.examples import MOST_KEPT, Example, example_from_record
from qpeft_rerank.training.sampler import Sampling, drawn_from
from qpeft_rerank.trec.lines import read_lines


@dataclass(frozen=True, slots=True)
class TrainingFile:
    """What was taken from one file.

    :param examples: the questions, in file order.
    :param total: questions in the file.
    :param dropped: those without a positive passage.
    :param digest: SHA-256 of the file's text, to recognise it again.
    """

    path: str
    examples: tuple[Example, ...]
    total: int
    dropped: int
    digest: str

    @property
    def summary(self) -> str:
        """What was taken and what was not, for people."""
        dropped = f", {self.dropped:,} dropped for want of a positive" if self.dropped else ""
        unused = sum(example.unused for example in self.examples)
        past = f", {unused:,} passages past a question's {MOST_KEPT}th left out" if unused else ""
        return f"{self.path}: {len(self.examples):,} of {self.total:,} questions{dropped}{past}"


def read_training_file(
    path: str, queries: int | None = None, seed: int = 42, sampling: Sampling | None = None
) -> TrainingFile:
    """Read the questions that have a positive passage, or a random sample of them.

    :param path: JSONL or a JSON array, plain or gzip.
    :param queries: how many to sample; None takes all. Fewer are taken where the file has fewer.
    :param seed: decides the sample, with nothing else.
    :param sampling: how groups are drawn later: passages that it never draws are let go; None keeps all.
    :raises InputError: for a malformed entry, with its line, and for a file without any positive.
    """
    digest = hashlib.sha256()
    draw = random.Random(seed)
    kept: list[tuple[int, Example]] = []
    total = usable = 0
    for number, where, record in _records(path, digest):
        total += 1
        example = example_from_record(record, number, where)
        if example is None:
            continue
        # Reservoir sampling: one pass, and memory for the sample only.
        if queries is None or len(kept) < queries:
            kept.append((number, drawn_from(example, sampling) if sampling else example))
        elif (slot := draw.randrange(usable + 1)) < queries:
            kept[slot] = (number, drawn_from(example, sampling) if sampling else example)
        usable += 1
    if not usable:
        found = f"none of its {total} questions has a positive passage" if total else "no questions in it"
        raise InputError(f"{path}: {found}; mine some with python -m qpeft_rerank.mine")
    examples = tuple(example for _, example in sorted(kept, key=lambda pair: pair[0]))
    return TrainingFile(path, examples, total, total - usable, digest.hexdigest())


def _records(path: str, digest: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield (number, place for messages, record) of a JSONL file or of one JSON array."""
    lines = _digested(path, digest)
    first = next(((lineno, line) for lineno, line in lines if line.strip()), None)
    if first is None:
        raise InputError(f"{path}: the file is empty; write triples with python -m qpeft_rerank.mine")
    if first[1].lstrip().startswith("["):
        yield from _array(path, first, lines)
        return
    number = 0
    for lineno, line in chain([first], lines):
        if not line.strip():
            continue
        try:
            record = parse_json(line)
        except json.JSONDecodeError as error:
            raise InputError(
                f"{path}:{lineno}: broken JSON ({error.msg} at column {error.colno}); one question a line"
            ) from None
        except (ValueError, RecursionError):  # a number of thousands of digits; brackets a thousand deep
            raise InputError(f"{path}:{lineno}: JSON too deep or its numbers too long; mend the line") from None
        number += 1
        yield number, f"{path}:{lineno}", record


def _array(path: str, first: tuple[int, str], lines: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str, Any]]:
    """Yield the entries of a JSON array one by one, as soon as each is complete."""
    splitter = _Entries()
    number, lineno = 0, first[0]
    opened = first[1].lstrip()[1:]
    for lineno, line in chain([(first[0], opened)], lines):
        for begun, text in splitter.feed(lineno, line):
            if not text.startswith("{"):
                raise InputError(f"{path}:{begun}: {text[:40]!r} in the array is no entry; each is a JSON object")
            number += 1
            try:
                record = parse_json(text)
            except json.JSONDecodeError as error:
                raise InputError(
                    f"{path}:{begun + error.lineno - 1}: broken JSON ({error.msg}) in entry {number}; mend the file"
                ) from None
            except (ValueError, RecursionError):
                raise InputError(f"{path}:{begun}: JSON too deep or its numbers too long; mend the file") from None
            yield number, f"{path}:{begun}", record
    if not splitter.closed:
        raise InputError(f"{path}:{lineno}: the array is not closed; the file was cut short, fetch it again")


class _Entries:
    """Cuts an array's text into its objects by counting braces outside strings."""

    def __init__(self) -> None:
        self.closed = False
        self._depth = 0
        self._parts: list[str] = []
        self._begun = 0
        self._in_string = False

    def feed(self, lineno: int, line: str) -> Iterator[tuple[int, str]]:
        """Take one line; yield (line where it began, text) of each object that ends in it, and of what is none."""
        start = place = 0
        while place < len(line):
            character = line[place]
            if self._in_string:
                if character == "\\":
                    place += 1
                elif character == '"':
                    self._in_string = False
                else:
                    # Nothing else matters inside a string: go to its end, or to the next escape. That is looked for
                    # up to the end only: a line may be the whole file.
                    end = line.find('"', place)
                    end = end if end >= 0 else len(line)
                    escape = line.find("\\", place, end)
                    place = escape if escape >= 0 else end
                    continue
            elif self._depth == 0 and (self.closed or character not in "{],"):
                if not character.isspace():
                    yield lineno, line[place:]
            elif character == '"':
                self._in_string = True
            elif character == "{":
                if self._depth == 0:
                    start, self._begun = place, lineno
                self._depth += 1
            elif character == "}":
                self._depth -= 1
                if self._depth == 0:
                    yield self._begun, "\n".join([*self._parts, line[start : place + 1]])
                    self._parts = []
            elif character == "]" and self._depth == 0:
                self.closed = True
            place += 1
        if self._depth:
            self._parts.append(line[start:])


def _digested(path: str, digest: Any) -> Iterator[tuple[int, str]]:
    for lineno, line in read_lines(path):
        digest.update(line.encode())
        digest.update(b"\n")
        yield lineno, line
