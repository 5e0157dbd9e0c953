"""Random draws that leave the process's own generators where they were."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the context a CPU's draws follow from a seed; a GPU's generator, too, is untouched, as by
    ``torch.manual_seed`` it would not be.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield
