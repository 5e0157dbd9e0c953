"""The score journal: every scored batch on disk, as soon as those before it in the plan are.

One file of JSON lines. ``{"run": digest}`` opens a section, the scores of that run follow, a batch
in one write; ``{"writing": paths}`` tells what was made of them then. A score's key covers all that it
depends on, so a score found here is never wrong, whatever else changed. Resuming the same run reopens
its section; scores of earlier sections serve as a cache (another depth, another alpha). See
:meth:`Journal.begin` for why the two differ.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from qpeft_rerank.cache import cache_dir
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import append, held, parse_json, release
from qpeft_rerank.likelihood.scores import Score

_FORMAT = 1
_HEADER = json.dumps({"journal": _FORMAT}) + "\n"
#: Opens the line that tells which files are made of the scores.
ANNOUNCED = "writing"


def score_key(scorer: str, query: str, title: str, text: str) -> str:
    """The journal's key of one candidate under a scorer's fingerprint: 32 hexadecimal digits."""
    digest = hashlib.blake2b(digest_size=16)
    for part in (scorer, query, title, text):
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def _damage(number: int) -> str:
    """What to say of a line that is none of a journal's."""
    if number == 1:
        return "not a journal; move the file, or choose another --output"
    return f"not a journal line; take it out (sed -i {number}d), and what it held is scored again"


class Journal:
    """Scores on disk, by key. Use it in a ``with`` block: it holds a lock on its file, and leaves none without scores.

    :param path: the journal's file; made if absent, a torn last line is cut off.
    :param known: scores of another journal, taken for this one's earlier ones but not written to it.
    :raises InputError: if the file is another format, is damaged, cannot be written, or is in use.
    """

    def __init__(self, path: Path, known: Mapping[str, Score] | None = None) -> None:
        self.path = path
        self._known = known or {}
        self._kept: dict[str, Score] = {}
        self._section: dict[tuple[int, str], Score] = {}
        self._run: str | None = None
        self._writing: list[str] | None = None
        #: How many candidates an engine has done with scores that were here, for who tells its speed.
        self.spared = 0
        busy = f"{path}: another process is computing this output; wait for it or choose another --output"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: IO[bytes] = held(path, busy)
        except OSError as error:
            mine = path.is_relative_to(cache_dir())  # what has no file beside which it could be
            fix = "set QPEFT_RERANK_CACHE to a folder that can, or name a file" if mine else "choose another --output"
            raise InputError(f"{path}: cannot be written ({error.strerror}); {fix}") from None
        try:
            self._read()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Stopped, or refused, before its first batch, it holds nothing to go on with.
        release(self._file, self.path, unused=not (self._kept or self._section or self._writing))

    def _read(self) -> None:
        self._file.seek(0)
        good = 0
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                if number == 1 and not _HEADER.encode("ascii").startswith(line):
                    raise InputError(f"{self.path}:1: {_damage(1)}")
                break  # the write that was cut short; its batch is scored again
            try:
                self._take(parse_json(line.decode("utf-8")), number)
            except (ValueError, KeyError, TypeError, RecursionError):
                raise InputError(f"{self.path}:{number}: {_damage(number)}") from None
            good += len(line)
        self._file.truncate(good)
        if good == 0:
            self._write(_HEADER)

    def _take(self, record: dict[str, Any], number: int) -> None:
        if number == 1:
            if record["journal"] != _FORMAT:
                raise InputError(f"{self.path}: journal of another version; delete it to start afresh")
        elif "run" in record:
            self._close_section(str(record["run"]))
        elif ANNOUNCED in record:
            self._writing = record[ANNOUNCED]
            return
        else:
            total, tokens = record["sum"], record["tokens"]
            if not isinstance(total, float) or not isinstance(tokens, int):
                raise ValueError
            place = (int(str(record.get("shard", 0))), str(record["key"]))
            self._section[place] = Score(total, tokens, bool(record.get("truncated")))
        self._writing = None

    def _close_section(self, run: str) -> None:
        self._kept.update((key, score) for (_, key), score in self._section.items())
        self._section = {}
        self._run = run

    def _write(self, text: str) -> None:
        """All of a text or nothing: whoever frees some space may go on with this object."""
        end = self._file.seek(0, os.SEEK_END)
        try:
            append(self._file, self.path, text.encode("ascii"))
        except InputError:
            with suppress(OSError):
                self._file.truncate(end)
            raise

    def begin(self, run: str) -> None:
        """Open the section of the run with this digest, or reopen it if it was the last one.

        Which candidates are batched together must not depend on when a run was killed, or its
        scores would differ in the last digit. So only what was here *before* the run began is left
        out of its plan (:meth:`earlier`); what the run itself wrote (:meth:`mine`) saves batches.
        """
        if run == self._run:
            return
        self._write(json.dumps({"run": run}) + "\n")
        self._close_section(run)
        self._writing = None

    def announce(self, files: Iterable[str]) -> None:
        """Tell which files are about to be written: until more is scored, they are this journal's own."""
        listed = sorted(files)
        if listed != self._writing:
            self._write(json.dumps({ANNOUNCED: listed}) + "\n")
            self._writing = listed

    def earlier(self, key: str) -> Score | None:
        """The score found before this run began, or None."""
        return self._kept.get(key) or self._known.get(key)

    def written(self) -> dict[str, Score]:
        """All scores of the file, by key; of one key the latest."""
        return self._kept | {key: score for (_, key), score in self._section.items()}

    def scores(self) -> dict[str, Score]:
        """All scores by key, those of the other journal too."""
        return {**self._known, **self.written()}

    def absorb(self, origin: str, scores: Mapping[str, Score]) -> None:
        """Append another journal's scores, in a section of their own."""
        if scores:
            self.begin(f"of {origin}")
            self.add(scores.items())

    def mine(self, key: str, shard: int = 0) -> Score | None:
        """The score that this run has written for this shard, before or after a restart, or None.

        The same texts may occur in two shards, in different batches: each keeps its own score.
        """
        return self._section.get((shard, key))

    def add(self, scores: Iterable[tuple[str, Score]], shard: int = 0) -> None:
        """Append one batch, as a single write, of which a kill may leave the lines of the first pages."""
        scores, lines = list(scores), []
        for key, score in scores:
            record = {"key": key, "sum": score.total, "tokens": score.tokens}
            if shard:
                record["shard"] = shard
            if score.truncated:
                record["truncated"] = True
            lines.append(json.dumps(record) + "\n")
        self._write("".join(lines))
        self._writing = None
        self._section.update(((shard, key), score) for key, score in scores)
