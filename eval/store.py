"""What the work folder holds of each step: a folder by key with the output, a log, and a record.

The record ``step.json`` is written before the command starts (``begun``) and when it has ended well
(``done``). It holds digests of the outputs that the step took and of the one it made, so a damaged or
exchanged file is noticed, and what follows from it with it. It also tells the versions that ran the command.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.steps import FORMAT, Step, adapter_digests
from eval.versions import versions
from qpeft_rerank import __version__
from qpeft_rerank.adapters.find import CONFIG, WEIGHTS
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import taken, write_whole
from qpeft_rerank.likelihood.identity import file_digest
from qpeft_rerank.training.workfolder import clear_finished

_RECORD = "step.json"
# A journal is keyed by content itself, so what is in it stays true.
_KEPT = (".journal",)
# Seconds after which another change of a file is sure to show in its time.
_SETTLED = 5.0


class Store:
    """The steps of a work folder."""

    def __init__(self, work: Path) -> None:
        self.work = work
        # Each of hundreds of steps asks for all that it follows from.
        self._digests: dict[tuple[str, int, int, int], str] = {}

    def is_done(self, step: Step) -> bool:
        """Tell whether the output is complete, as it was made, and made from the inputs as they are."""
        record = self.record(step)
        if record.get("state") != "done" or not all(self.is_done(need) for need in step.needs):
            return False
        return record["inputs"] == self.inputs(step) and record["output"] == self.digest(step)

    def record(self, step: Step) -> dict[str, Any]:
        """The step's record, empty if there is none that can be read."""
        try:
            found = json.loads((step.folder(self.work) / _RECORD).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) and found.get("format") == FORMAT else {}

    def records(self) -> list[dict[str, Any]]:
        """The records of all finished steps here, for what they tell about time."""
        found = []
        for path in sorted((self.work / "steps").glob(f"*/{_RECORD}")):
            try:
                record = json.loads(path.read_text("utf-8"))
            except (OSError, ValueError):
                continue
            if isinstance(record, dict) and record.get("state") == "done" and record.get("format") == FORMAT:
                found.append(record)
        return found

    def inputs(self, step: Step) -> dict[str, str | None]:
        """Digest of each output it takes, by the key of the step that made it."""
        return {need.key: self.digest(need) for need in step.needs}

    def digest(self, step: Step) -> str | None:
        """Digest of a step's output as it is now; None if it is absent or incomplete."""
        place = step.place(self.work)
        if step.form == "file":
            return self._file_digest(place) if place.is_file() else None
        if not place.is_dir():
            return None
        if step.form == "index":
            # Two builds of one index differ in every byte: its key and the files' sizes tell it.
            files = sorted(place.glob("*"))
            described: Any = [step.key, [[path.name, path.stat().st_size] for path in files if path.is_file()]]
            whole = any(path.name.startswith("segments_") for path in files)
        else:
            described = adapter_digests(place, self._file_digest)
            whole = (place / CONFIG).is_file() and (place / WEIGHTS).is_file()
        return hashlib.sha256(json.dumps(described).encode()).hexdigest() if whole else None

    def _file_digest(self, path: Path) -> str:
        """Digest of a file; that of one which has not been touched for a while is remembered."""
        state = path.stat()
        seen = (str(path), state.st_ino, state.st_size, state.st_mtime_ns)
        if seen not in self._digests:
            digest = file_digest(path)
            if time.time() - state.st_mtime < _SETTLED:
                return digest
            self._digests[seen] = digest
        return self._digests[seen]

    def begin(self, step: Step) -> bool:
        """Get ready to run a step; return whether it goes on after an earlier start.

        Work that was begun from other inputs, or that was damaged since, is removed.
        """
        folder, record, inputs = step.folder(self.work), self.record(step), self.inputs(step)
        resumed = bool(record) and record.get("inputs") == inputs
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if not resumed:
                self._clear(folder)
            elif record["state"] == "done":
                # It was complete once: what is there now is not what was made.
                place = step.place(self.work)
                shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
            ran_by = record.get("versions", []) if resumed else []
            # What is whole only lacks the note of its end: nothing of it is run here.
            if self.digest(step) is None and (here := versions()) not in ran_by:
                ran_by.append(here)
            self._write(step, {"state": "begun", "inputs": inputs, "versions": ran_by})
        except OSError as error:
            raise InputError(f"{folder}: cannot be written ({error.strerror}); choose another --work") from None
        return resumed

    def fail(self, step: Step, why: str) -> None:
        """Note that the command ended with a fault of its own, though it left an output."""
        self._write(step, {"state": "failed", "inputs": self.inputs(step), "why": why})

    def failure(self, step: Step) -> str | None:
        """What :meth:`fail` noted, as long as the output and what it was made from are there."""
        record = self.record(step)
        if record.get("state") != "failed" or record.get("inputs") != self.inputs(step) or self.digest(step) is None:
            return None
        return str(record.get("why"))

    def finish(
        self,
        step: Step,
        seconds: float | None,
        peak: int | None = None,
        jobs: int = 1,
        threads: str | None = None,
    ) -> None:
        """Record a step whose command ended well.

        :param seconds: that it took, None if it was not one whole run; ``peak``: its memory in bytes, if known;
            ``jobs``: how many commands had their turn at a time; ``threads``: their ``OMP_NUM_THREADS``.
        """
        if step.form == "adapter":
            clear_finished(step.place(self.work))  # by a training that was killed between its output and its end
        output = self.digest(step)
        if output is None:
            raise InputError(f"{step.kind} {step.label}: ended without its output {step.place(self.work)}")
        values = {"state": "done", "inputs": self.inputs(step), "output": output, "seconds": seconds, "jobs": jobs}
        values |= {"threads": threads} if threads else {}
        self._write(step, values | ({"peak_bytes": peak} if peak else {}))

    def _write(self, step: Step, values: dict[str, Any]) -> None:
        described = {
            "format": FORMAT,
            "qpeft_rerank": __version__,
            "kind": step.kind,
            "label": step.label,
            "operations": step.operations,
            "command": ["python", *step.command(self.work)],
            # Of all that had a part in it: more than one, perhaps, where it was stopped and went on.
            "versions": self.record(step).get("versions", []),
        }
        path = step.folder(self.work) / _RECORD
        with taken(path):
            write_whole(path, (json.dumps(described | values, indent=2) + "\n").encode())

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the work folder; two drivers would do the same steps twice.

        :raises InputError: if another process holds it, or it cannot be used.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.work / "lock", timeout=0)
        try:
            self.work.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout:
            raise InputError(
                f"--work {self.work}: another process works there; wait for it or name another folder"
            ) from None
        except OSError as error:
            raise InputError(f"--work {self.work}: cannot be used ({error.strerror}); name another folder") from None
        try:
            yield
        finally:
            lock.release()

    @staticmethod
    def _clear(folder: Path) -> None:
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.endswith(_KEPT):
                path.unlink()
