"""How many processes a launcher started for one job, for those who must not wait for torch."""

import os


def started() -> int:
    """How many processes the environment says that there are."""
    count = os.environ.get("WORLD_SIZE", "1")
    return int(count) if count.isdecimal() else 1


def speaks() -> bool:
    """Whether this process tells what all of them would: the only one, or the first of several."""
    return started() == 1 or os.environ.get("RANK", "0") == "0"
