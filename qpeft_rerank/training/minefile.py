"""The mined file while it grows: a work file beside it, from which a killed mining goes on."""

import json
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import append, held, release
from qpeft_rerank.training.mining import Mined, Tally
from qpeft_rerank.trec.output import write_lines

_FORMAT = 2


class DamagedError(InputError):
    """A line of a work file that is no record."""


class MineFile:
    """Outcomes of topics, one JSON line each, appended as they come. Use it in a ``with`` block.

    :param output: the JSONL to make; it appears only when it is complete.
    :param settings: what decides the outcomes; an unfinished file of other settings is refused.
    :param overwrite: forget an unfinished file of other settings.
    :raises InputError: if another process mines the same file, or the folder cannot be written.
    """

    def __init__(self, output: Path, settings: dict[str, Any], overwrite: bool = False) -> None:
        self.output = output
        self.path = output.with_name(f".{output.name}.work")
        self._settings = {"mine": _FORMAT} | settings
        busy = f"{output}: another process is mining it; wait or choose another --output"
        try:
            self._file: IO[bytes] = held(self.path, busy)
        except OSError as error:
            raise InputError(f"{output}: cannot be written ({error.strerror}); choose another --output") from None
        try:
            self._begin(overwrite)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> "MineFile":
        return self

    def __exit__(self, *exception: object) -> None:
        # Stopped, or refused, before its first topic, it holds nothing to go on with.
        release(self._file, self.path, unused=len(list(islice(self._lines(), 2))) < 2)

    def _begin(self, overwrite: bool) -> None:
        good = 0
        try:
            # Where no topic is done yet, nothing is lost by starting with these settings.
            fresh = sum(1 for _ in self._lines()) < 2
        except DamagedError:
            if not overwrite:
                raise
            self._file.truncate(0)
            fresh = True
        for number, (line, record) in enumerate(self._lines(), 1):
            if number == 1 and record != self._settings:
                if overwrite or fresh:
                    break
                raise InputError(
                    f"{self.path}: an unfinished mining with other settings; give the same command again to finish "
                    "it, or --overwrite to forget it"
                )
            good += len(line)
        self._file.truncate(good)
        if not good:
            self._write(self._settings)

    def _lines(self) -> Iterator[tuple[bytes, dict[str, Any]]]:
        """Yield every complete line with its record; a last line that was cut short is left out."""
        self._file.seek(0)
        for number, line in enumerate(self._file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                record = json.loads(line)
                if number > 1:
                    record["outcome"], record["false_negatives"], record["absent"]
                yield line, record
            except (ValueError, TypeError, KeyError):
                raise DamagedError(f"{self.path}:{number}: damaged; use --overwrite to start afresh") from None

    def _write(self, record: dict[str, Any]) -> None:
        # JSON's escapes keep a line on one line, and any text, even unpaired surrogates, writable.
        append(self._file, self.path, (json.dumps(record) + "\n").encode("ascii"))

    def tally(self) -> Tally:
        """What the file holds so far."""
        tally = Tally()
        for record in self._outcomes():
            tally.add("example" in record, record["outcome"], record["false_negatives"], record["absent"])
        return tally

    def _outcomes(self) -> Iterator[dict[str, Any]]:
        lines = self._lines()
        next(lines, None)
        for _, record in lines:
            yield record

    def extend(self, outcomes: Iterable[Mined]) -> Iterator[Mined]:
        """Write outcomes one by one and pass them on."""
        for mined in outcomes:
            record: dict[str, Any] = {"topic": mined.topic, "outcome": mined.outcome}
            record["false_negatives"] = mined.false_negatives
            record["absent"] = mined.absent
            if mined.example is not None:
                record["example"] = mined.example.to_record()
            self._write(record)
            yield mined

    def finish(self) -> None:
        """Write the output, whole, and remove the work file.

        :raises InputError: if no topic gave a triple.
        """
        tally = self.tally()
        if not tally.triples:
            self.path.unlink()
            absent = f" ({tally.absent:,} passages that qrels call relevant are not in the collection)"
            raise InputError(
                f"no topic has a positive among its candidates{absent if tally.absent else ''}, so {self.output} was not "
                "written; check that topics, judgements and collection belong together, or raise --hits"
            )
        found = (record["example"] for record in self._outcomes() if "example" in record)
        write_lines(str(self.output), (json.dumps(example) + "\n" for example in found))
        self.path.unlink()
