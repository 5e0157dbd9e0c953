"""Every raw measurement in one JSON file, by key; what is there is not measured again."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from eval.benchmarks.processes import run_job
from eval.benchmarks.worker import KINDS
from eval.commands import ROOT
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import write_whole

_FORMAT = 1
_HERE = Path(__file__).parent
# What a job's values name by place; the content is in a digest.
_PLACES = ("model", "workload", "folder", "gguf", "t5", "run", "data", "work")
# Files that more than one kind of job uses.
_SHARED = ("clock", "loops", "scoring", "work")


def digest(value: Any) -> str:
    """A short digest of anything that JSON can hold."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


def code_digest(folder: Path) -> str:
    """Digest of a package's Python files: a measurement of other code is another measurement."""
    summary = hashlib.blake2b(digest_size=6)
    for path in sorted(folder.rglob("*.py")):
        summary.update(f"{path.relative_to(folder)}\0".encode() + path.read_bytes() + b"\0")
    return summary.hexdigest()


class Measurements:
    """The file, rewritten whole after each measurement.

    :param path: the file; it need not exist.
    :param machine: what is measured on, see :func:`eval.benchmarks.machine.describe`.
    :raises InputError: if the file is something else, or comes from another machine.
    """

    def __init__(self, path: Path, machine: dict[str, Any]) -> None:
        self.path = path
        self.machine = machine
        self.found: dict[str, Any] = {}
        if not path.exists():
            return
        try:
            record = json.loads(path.read_text("utf-8"))
            known, found, version = record["machine"], record["measurements"], record["format"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(f"{path}: holds no measurements; name another file with --output") from None
        if version != _FORMAT or not isinstance(found, dict):
            raise InputError(f"{path}: measurements of another version; name another file with --output")
        if known != machine:
            raise InputError(f"{path}: was measured on another machine or software; name another file with --output")
        self.found = found

    def get(self, key: str) -> Any | None:
        """A measurement, or None."""
        return self.found.get(key)

    def add(self, key: str, value: Any) -> None:
        """Keep a measurement, on disk before this returns.

        :raises InputError: if the file cannot be written.
        """
        self.found[key] = value
        record = {"format": _FORMAT, "machine": self.machine, "measurements": self.found}
        try:
            write_whole(self.path, (json.dumps(record, indent=1) + "\n").encode())
        except OSError as error:
            raise InputError(f"{self.path}: cannot be written ({error.strerror}); choose another --output") from None


class Once:
    """Does jobs that the file of measurements does not have.

    :param kept: the file.
    :param identity: digest of the model that all jobs read.
    """

    def __init__(self, kept: Measurements, identity: str) -> None:
        self.kept = kept
        self.identity = identity
        self._ours = code_digest(ROOT / "qpeft_rerank")

    def __call__(
        self, label: str, job: dict[str, Any], given: str | None = None, python: str = sys.executable
    ) -> dict[str, Any]:
        """The job's answer, from the file or measured now.

        :param label: what the key begins with; a digest of all that decides the answer follows.
        :param job: see :func:`eval.benchmarks.processes.run_job`. Names of files in it (``_PLACES``) do not count.
        :param given: digest of the data that the job reads.
        """
        decides = {name: value for name, value in job.items() if name not in _PLACES}
        decides |= {"given": given, "identity": self.identity, "code": _job_digest(job["kind"])}
        if job.get("way", "ours") == "ours":
            decides["ours"] = self._ours
        key = f"{label} #{digest(decides)}"
        found = self.kept.get(key)
        if found is None:
            found = run_job(job, python)
            self.kept.add(key, found)
            say(f"{label}: {found['score'][0]:.1f} s" if "score" in found else label)
        return found


def _job_digest(kind: str) -> str:
    """Digest of the files that do a kind of job."""
    own = KINDS[kind].rpartition(".")[2]
    texts = [(_HERE / f"{name}.py").read_text("utf-8") for name in sorted({own, *_SHARED})]
    return digest(texts)
