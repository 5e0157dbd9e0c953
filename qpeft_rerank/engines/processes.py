"""The processes that do one job together, started by ``accelerate launch``.

Those that score exchange Python objects only, over gloo, whatever the device. None of them waits in a collective for one
that may have failed: a meeting, and every batch, asks the launcher's key-value store whether somebody has ended the job.
Those that train do wait there (:mod:`qpeft_rerank.training.workers`), until their launcher stops them.
"""

import os
import time
import traceback
import warnings
from collections.abc import Callable
from typing import TypeVar

import torch

from qpeft_rerank import console
from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.launched import started

_Made = TypeVar("_Made")
# Seconds between two looks at the store, and for which the main process, which may hold it, stays for the others.
_POLL = 0.05
_STAY = 30.0


def on_cpu(device: str) -> bool:
    """Whether processes compute on processors: as ``--device`` says, or the launcher, or for want of a GPU."""
    return device == "cpu" or _cpu_wanted() or not torch.cuda.is_available()


def _cpu_wanted() -> bool:
    return os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")


def run(command: Callable[["Team"], int], cpu: bool = True, stay: float = _STAY) -> int:
    """Join the other processes, call ``command`` and return its exit status, as :func:`console.run` does.

    Whatever ends one process ends all, and is said once.

    :param cpu: see :class:`Team`.
    :param stay: see :meth:`Team.leave`.
    """
    teams: list[Team] = []

    def joined() -> int:
        teams.append(Team(cpu))
        return teams[0].guard(command)

    try:
        return console.run(joined, resumes=True)
    finally:
        for team in teams:
            team.leave(stay)


class _EndedError(Exception):
    """Another process has ended the job, and has said why."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Team:
    """This process among its fellows.

    :param cpu: what they exchange travels between processors; False leaves it to accelerate, for tensors of GPUs.
    :raises InputError: if they cannot be joined.
    """

    def __init__(self, cpu: bool) -> None:
        from accelerate import PartialState
        from torch.distributed import PrefixStore, distributed_c10d

        unset = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if unset:
            raise InputError(
                f"WORLD_SIZE={started()} without {' and '.join(unset)}: start with accelerate launch, "
                "or unset WORLD_SIZE"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of threads, which are the launcher's to choose
            try:
                # Objects need no GPU to travel, and NCCL would let nobody wait for hours.
                self._state = PartialState(cpu=cpu)
                self._store = PrefixStore("qpeft_rerank", distributed_c10d._get_default_store())
            except (RuntimeError, ValueError) as error:
                raise InputError(f"the {started()} processes do not find each other: {first_line(error)}") from None
        self.rank: int = self._state.process_index
        self.count: int = self._state.num_processes
        self._meetings = 0

    @property
    def main(self) -> bool:
        """Whether this process reads stdin, writes files and speaks."""
        return self.rank == 0

    def device(self, asked: str) -> str:
        """This process's own device for what ``--device`` says.

        :raises InputError: for a GPU by number, and if the machine has fewer GPUs than processes.
        """
        if asked.startswith("cuda:"):
            raise InputError(f"--device {asked}: each process takes a GPU of its own; give cuda, or leave it out")
        if asked == "auto" and _cpu_wanted():
            return "cpu"
        if asked not in ("auto", "cuda") or not torch.cuda.is_available():
            return asked
        place, gpus = self._state.local_process_index, torch.cuda.device_count()
        if place >= gpus:
            raise InputError(f"{place + 1} processes on a machine with {gpus} GPUs: start one for each")
        return f"cuda:{place}"

    def training_device(self, asked: str) -> str:
        """The same for a training, whose gradients travel between processors where there is no CUDA.

        :raises InputError: as :meth:`device` does, and for MPS, from which they cannot.
        """
        own = self.device(asked)
        if own == "mps":
            raise InputError("--device mps: is for one process alone; leave the launcher out, or give cpu")
        return "cpu" if own == "auto" and on_cpu(asked) else own

    def add(self, scores: int) -> int:
        """Count scores that this process has done; return how many all have.

        :raises Exception: if another process has ended the job, as everything here that waits; leave it to
            :meth:`guard`.
        """
        self._look()
        return self._asked(lambda: self._store.add("scores", scores))

    def meet(self, watch: Callable[[], object] = lambda: None) -> None:
        """Wait until all processes are here, calling ``watch`` meanwhile."""
        self._meetings += 1
        name = f"meeting {self._meetings}"
        here = self._asked(lambda: self._store.add(name, 1))
        while here < self.count:
            self._look()
            watch()
            time.sleep(_POLL)
            here = self._asked(lambda: self._store.add(name, 0))

    def from_main(self, make: Callable[[], _Made]) -> _Made:
        """What the main process makes, for all."""
        from accelerate.utils import broadcast_object_list

        given = [make() if self.main else None]
        self.meet()
        made: _Made = broadcast_object_list(given)[0]
        return made

    def gather(self, own: _Made, watch: Callable[[], object]) -> list[_Made]:
        """What each process has, in the order of their ranks, once all have it."""
        from accelerate.utils import gather_object

        self.meet(watch)
        return list(gather_object([own]))

    def guard(self, command: Callable[["Team"], int]) -> int:
        """Call ``command``; return its status, or that with which another process ended the job.

        :raises InputError: as ``command`` does, in the first process that does.
        """
        try:
            return command(self)
        except _EndedError as ended:
            return ended.status
        except InputError:
            if self._end(2):
                raise
            return 2
        except BrokenPipeError:
            self._end(0)
            raise
        except OSError:  # a disk that is full: one line, too
            if self._end(2):
                raise
            return 2
        except KeyboardInterrupt:
            self._end(130)
            if self.main:
                raise
            return 130
        except Exception:
            # What a process that has ended breaks is not this one's fault.
            try:
                status = self._status()
            except RuntimeError:  # the store has gone with its process
                return 1
            if status is not None:
                return status
            # At once: a launcher stops this process as soon as another one has ended.
            traceback.print_exc()
            self._end(1)
            return 1

    def leave(self, stay: float) -> None:
        """Say good-bye; the main process stays until all others have, for they may still ask its store.

        :param stay: seconds that it stays at the most.
        """
        until = time.monotonic() + stay
        try:
            left = self._store.add("left", 1)
            while self.main and left < self.count and time.monotonic() < until:
                time.sleep(_POLL)
                left = self._store.add("left", 0)
        except RuntimeError:
            pass  # the store has gone with its process

    def _end(self, status: int) -> bool:
        """End the job for all; return whether no other process had."""
        own = f"{self.rank} {status}"
        try:
            return bool(self._store.compare_set("ended", "", own).decode() == own)
        except RuntimeError:
            return True

    def _look(self) -> None:
        if (status := self._asked(self._status)) is not None:
            raise _EndedError(status)

    def _status(self) -> int | None:
        """With which a process has ended the job, or None."""
        return int(self._store.get("ended").decode().split()[1]) if self._store.check(["ended"]) else None

    def _asked(self, question: Callable[[], _Made]) -> _Made:
        try:
            return question()
        except RuntimeError:
            raise InputError("the main process has gone; the same command goes on from here") from None
