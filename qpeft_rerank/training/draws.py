"""Seeds of dropout: no two micro-batches of a training draw the same."""

import hashlib


def step_seed(seed: int, step: int, rank: int) -> int:
    """The seed of a process's first micro-batch in a step; the next ones' follow it, one by one.

    :param seed: the training's.
    """
    # So far apart that a step's micro-batches never reach the next step's.
    first = ((seed << 40) + (step << 16)) % (1 << 63)
    return _other(first, "rank", rank)


def part_seed(seed: int, number: int) -> int:
    """The seed of a part of a micro-batch that has this one; the first part's is the same."""
    return _other(seed, "part", number)


def _other(seed: int, what: str, number: int) -> int:
    """The seed itself for number 0, else a hash of both: any sum of the two is another pair's sum as well."""
    if not number:
        return seed
    return int.from_bytes(hashlib.blake2b(f"{seed} {what} {number}".encode("ascii"), digest_size=8).digest()) >> 1
