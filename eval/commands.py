"""Runs a step's command as a subprocess of this Python, and keeps what it says."""

import os
import shlex
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import IO, Any

from eval.steps import Step
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import append
from qpeft_rerank.neighbours import processors

ROOT = Path(__file__).resolve().parent.parent
_LAST = 4096  # bytes of a log in which its last line is looked for
_THREADS = "OMP_NUM_THREADS"
_ERROR = "error: "  # how the project's commands begin to say why they end


def shell(step: Step, work: Path) -> str:
    """The command as a person would type it in the repository's folder."""
    return typed(step, work, ["python", *step.command(work)])


def typed(step: Step, work: Path, words: Sequence[str], threads: str | None = None) -> str:
    """A step's command with these words, in a shell where its folder may not exist."""
    folder, text = shlex.quote(str(step.folder(work))), shlex.join(words)
    to = f" > {shlex.quote(str(step.place(work)))}" if step.prints else ""
    return f"mkdir -p {folder} && {f'{_THREADS}={threads} ' if threads else ''}{text}{to}"


def environment() -> dict[str, str]:
    """This process's environment, and in it the project for every Python to find."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


class FaultError(InputError):
    """A command that ended with a fault of its own. What it left is not its result, unlike that of a stopped one, which
    writes its output whole or not at all.
    """


class Commands:
    """Commands of a work folder.

    :param jobs: how many run at a time; each then gets its share of the processors, as threads that wait for
        each other lose more than they win (``OMP_NUM_THREADS`` says otherwise).
    """

    def __init__(self, work: Path, jobs: int = 1) -> None:
        self.work = work
        self.jobs = jobs
        share = str(max(1, processors() // jobs)) if jobs > 1 else None
        #: What the commands' ``OMP_NUM_THREADS`` is; None if it is not set.
        self.threads = os.environ.get(_THREADS, share)
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def __call__(self, step: Step) -> int | None:
        """Run a step's command; return the greatest resident size of its process in bytes, where the system tells.

        :raises InputError: if it failed, with its own last line; :class:`FaultError` if nobody stopped it.
        """
        log, place = step.folder(self.work) / "log.txt", step.place(self.work)
        fresh = place.with_name(f".{place.name}.part")
        with log.open("wb") as said, (fresh if step.prints else Path(os.devnull)).open("wb") as printed:
            process = self._start(step, printed)
            try:
                _copy(process.stderr, said, log, self.jobs == 1 and sys.stderr.isatty())
                status, peak = _wait(process)
            except BaseException:
                process.terminate()
                process.wait()
                raise
            finally:
                with self._lock:
                    self._running.discard(process)
        if status in (130, -signal.SIGINT):
            raise KeyboardInterrupt
        if status != 0:
            fresh.unlink(missing_ok=True)
            kind = FaultError if self._is_fault(status, log) else InputError
            raise kind(f"{step.kind} {step.label}: {_why(status, log)} (log: {log}); what is finished stays")
        if step.prints:
            os.replace(fresh, place)
        return peak

    def stop(self) -> None:
        """End what is under way, and start nothing more."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                process.terminate()

    def _is_fault(self, status: int, log: Path) -> bool:
        """Tell whether a command failed of itself: it says so, or ended with a status while nothing stopped it."""
        with self._lock:
            stopped = self._stopped
        return _last_line(log).startswith(_ERROR) or (status > 0 and not stopped)

    def _start(self, step: Step, printed: IO[bytes]) -> "subprocess.Popen[bytes]":
        given = environment()
        if self.threads is not None:
            given[_THREADS] = self.threads
        before: dict[str, Any] = {"preexec_fn": _die_with_parent} if _libc() else {}
        with self._lock:
            if self._stopped:
                raise InputError(f"{step.kind} {step.label}: not started, as another failed")
            process = subprocess.Popen(
                [sys.executable, *step.command(self.work)],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.PIPE,
                env=given,
                **before,
            )
            self._running.add(process)
        return process


def _wait(process: "subprocess.Popen[bytes]") -> tuple[int, int | None]:
    """Exit status and peak memory in bytes."""
    if not hasattr(os, "wait4"):  # Windows
        return process.wait(), None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _copy(stream: IO[bytes] | None, log: IO[bytes], path: Path, watched: bool) -> None:
    """Keep what a command says, and show it to someone who watches.

    :raises InputError: if the disk does not take it.
    """
    if stream is None:
        return
    while data := os.read(stream.fileno(), 1 << 16):
        append(log, path, data)
        if watched:
            sys.stderr.buffer.write(data)
            sys.stderr.flush()


def _why(status: int, log: Path) -> str:
    line = _last_line(log)
    if line.startswith(_ERROR):
        return line.removeprefix(_ERROR)
    why = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
    return f"{why}; it said last: {line}" if line else why


def _last_line(log: Path) -> str:
    text = log.read_bytes()[-_LAST:].decode("utf-8", "replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(_ERROR)]
    return (errors or lines or [""])[-1]


@cache
def _libc() -> Any:
    if sys.platform != "linux":
        return None
    import ctypes

    return ctypes.CDLL(None)


def _die_with_parent() -> None:
    """Linux: a command must not go on writing when this process was killed, as the next start would meet it.

    Called between fork and exec, where nothing may be imported: another thread may hold the import's lock.
    """
    _libc().prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
