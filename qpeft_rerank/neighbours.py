"""How the threads of one job wait for each other where other jobs keep the processors busy.

OpenMP's threads spin at the end of each loop until the last of them is done. While the last one waits for a processor
that others use, the rest spin in vain: two threads beside two busy neighbours do less than half of what one alone does.
Told to sleep instead they do as much as one; on an idle machine sleeping costs a fifth, so it is not for everyone.
"""

import os
import statistics
import time
from pathlib import Path

#: OpenMP's own switches, of GNU and LLVM; who sets one is not overruled.
SWITCHES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
_SAMPLES, _PAUSE = 5, 0.005
# Of the processors, how many must be taken.
_BUSY = 0.25


def processors() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def running(statistic: Path = Path("/proc/loadavg")) -> int:
    """Threads of the whole machine that run or wait for a processor, without our own; 0 where nothing tells."""
    counts = []
    for _ in range(_SAMPLES):
        try:
            counts.append(int(statistic.read_text("ascii").split()[3].split("/")[0]))
        except (OSError, ValueError, IndexError):
            return 0
        time.sleep(_PAUSE)
    return max(0, round(statistics.median(counts)) - 1)


def make_room() -> None:
    """Let waiting threads sleep where others want the processors; to be called before torch is loaded."""
    if any(switch in os.environ for switch in (*SWITCHES, "OMP_NUM_THREADS")):
        return
    if running() > _BUSY * processors():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
