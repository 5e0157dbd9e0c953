"""How much of a file is in this process's memory."""

import sys
from pathlib import Path

#: Only Linux gives pages back (likelihood/mapped.py) and tells in /proc what is resident.
TOLD = sys.platform == "linux"


def resident(path: Path) -> int:
    """Kilobytes of a mapped file that are in memory; 0 where the system does not tell."""
    if not TOLD:
        return 0
    lines = Path("/proc/self/smaps").read_text().split("\n")
    maps = [at for at, line in enumerate(lines) if line.endswith(str(path))]
    return sum(int(line.split()[1]) for at in maps for line in lines[at : at + 5] if line.startswith("Rss:"))
