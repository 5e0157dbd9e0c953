"""A command that is killed and given again until it gets through."""

import random
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path


def kill_until_done(
    run: Sequence[str],
    environment: Mapping[str, str],
    grows: Path,
    output: Path,
    by: int = 1,
    pause: float = 0.0,
    attempts: int = 60,
    seed: int = 5,
) -> None:
    """Give a command again and again, each time with SIGKILL once a file of it has grown, until it ends by itself.

    It was killed twice at least then: where the processor is too quick for that, it starts afresh with half the pause.

    :param output: what the command leaves, a file or a folder; taken away before it starts afresh.
    :param by: bytes that the file grows by before the kill.
    :param pause: the kill comes up to so many seconds later, wherever the command then is.
    """
    draw = random.Random(seed)
    kills = 0
    for _ in range(attempts):
        with subprocess.Popen(run, env=environment, stderr=subprocess.DEVNULL) as process:
            before = size_of(grows)
            while process.poll() is None and size_of(grows) < before + by:
                time.sleep(0.001)
            time.sleep(draw.random() * pause)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
        if process.returncode == -signal.SIGKILL:
            kills += 1
            continue
        assert process.returncode == 0
        if kills >= 2:
            return
        (shutil.rmtree if output.is_dir() else Path.unlink)(output)
        kills, pause = 0, pause / 2
    raise AssertionError(f"not done after {attempts} attempts, {kills} kills in the last ones")


def size_of(path: Path) -> int:
    """Bytes on disk, 0 for no file; to read a growing file each time would take a core."""
    try:  # in one step: the command may take the file away meanwhile
        return path.stat().st_size
    except FileNotFoundError:
        return 0
