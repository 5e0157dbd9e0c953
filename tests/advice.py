"""Commands that a message advises."""

import shutil
import subprocess
from pathlib import Path

import pytest


def done_as_advised(command: list[str], folder: Path) -> bytes:
    """What such a command prints, in a folder."""
    # awk and iconv are part of every POSIX system, but not of Windows, nor of containers that leave them out.
    if shutil.which(command[0]) is None:
        pytest.skip(f"no {command[0]} here, so its advice cannot be followed")
    return subprocess.run(command, cwd=folder, capture_output=True, check=True).stdout
