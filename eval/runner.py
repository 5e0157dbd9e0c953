"""Runs steps that are not done, one after the other, as subprocesses of this Python."""

import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from eval import together
from eval.steps import Step
from eval.store import Store
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
_LAST = 4096  # bytes of a log in which its last line is looked for


def shell(step: Step, work: Path) -> str:
    """The command as a person would type it in the repository's folder."""
    text = shlex.join(["python", *step.command(work)])
    return f"{text} > {shlex.quote(str(step.place(work)))}" if step.prints else text


def run(steps: Sequence[Step], store: Store, joined: bool = False) -> int:
    """Run what is not done; return how many commands were run.

    :param steps: needed ones first.
    :param joined: score rerankers of the same candidates together first; then nobody knows what one took.
    :raises InputError: for a command that failed, with its own last line; what is finished stays.
    """
    count = 0
    filled: set[str] | None = None
    steps = together.later(steps) if joined else steps
    for number, step in enumerate(steps, 1):
        if store.is_done(step):
            continue
        if joined and filled is None and step.kind == "rerank":
            filled = set()
            for members in together.groups(steps, store):
                say(f"together: {', '.join(member.label for member in members)}")
                together.fill(members, store, _call)
                filled |= {member.key for member in members}
        resumed = store.begin(step)
        if resumed and store.digest(step) is not None:
            # Its command writes the output whole or not at all; only the note of it was missing.
            store.finish(step, None)
            continue
        say(f"[{number}/{len(steps)}] {step.kind} {step.label}{' (goes on)' if resumed else ''}")
        say(f"  {shell(step, store.work)}")
        started = time.monotonic()
        peak = _call(step, store.work)
        unknown = resumed or step.key in (filled or ())
        store.finish(step, None if unknown else time.monotonic() - started, peak)
        count += 1
    return count


def _call(step: Step, work: Path) -> int | None:
    """Run a step's command; return the greatest resident size of its process in bytes, where the system tells."""
    log = step.folder(work) / "log.txt"
    place = step.place(work)
    fresh = place.with_name(f".{place.name}.part")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    with log.open("wb") as said, (fresh if step.prints else Path(os.devnull)).open("wb") as printed:
        process = subprocess.Popen(
            [sys.executable, *step.command(work)],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
        try:
            _copy(process.stderr, said)
            status, peak = _wait(process)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    if status in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if status != 0:
        fresh.unlink(missing_ok=True)
        line = _last_line(log)
        if line.startswith("error: "):
            why = line.removeprefix("error: ")
        else:
            why = f"killed by signal {-status}" if status < 0 else f"ended with status {status}"
            why += f"; it said last: {line}" if line else ""
        raise InputError(f"{step.kind} {step.label}: {why} (log: {log}); what is finished stays")
    if step.prints:
        os.replace(fresh, place)
    return peak


def _wait(process: subprocess.Popen[bytes]) -> tuple[int, int | None]:
    """Exit status and peak memory in bytes."""
    if not hasattr(os, "wait4"):  # Windows
        return process.wait(), None
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _copy(stream: IO[bytes] | None, log: IO[bytes]) -> None:
    """Keep what a command says, and show it to someone who watches."""
    if stream is None:
        return
    watched = sys.stderr.isatty()
    while data := os.read(stream.fileno(), 1 << 16):
        log.write(data)
        log.flush()
        if watched:
            sys.stderr.buffer.write(data)
            sys.stderr.flush()


def _last_line(log: Path) -> str:
    text = log.read_bytes()[-_LAST:].decode("utf-8", "replace").replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("error: ")]
    return (errors or lines or [""])[-1]


def _die_with_parent() -> None:
    """Linux: a command must not go on writing when this process was killed, as the next start would meet it."""
    import ctypes

    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
