"""Seconds and bytes of this process."""

import resource
import sys
import time
from pathlib import Path
from typing import NamedTuple


class Lap(NamedTuple):
    """Seconds since the last lap: on the wall, and of all threads and ended children together."""

    wall: float
    cpu: float


class Clock:
    """Laps from one call of :meth:`lap` to the next."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), _cpu()

    def lap(self) -> Lap:
        """The time since the last lap, or since the clock was made."""
        wall, cpu = time.perf_counter(), _cpu()
        lap = Lap(wall - self._wall, cpu - self._cpu)
        self._wall, self._cpu = wall, cpu
        return lap


def peak_mb() -> float:
    """The most memory that this process has held, in MB of 10**6 bytes.

    Linux keeps it by address space. What ``getrusage`` tells there counts the parent's memory too, from
    before the program was loaded.
    """
    try:
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def _cpu() -> float:
    both = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in both)
