"""Random draws that leave the process's own generators, and what they are tried on, where they were."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside the context a CPU's draws follow from a seed; a GPU's generator, too, is untouched, as by
    ``torch.manual_seed`` it would not be.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


@contextmanager
def shaken(parameters: Iterable[nn.Parameter], by: float) -> Iterator[None]:
    """Inside the context, in which no gradients may be on, parameters are off by random numbers, the same each time.

    :param by: standard deviation of these numbers.
    """
    kept = [(parameter, parameter.clone()) for parameter in parameters]
    try:
        with seeded(0):
            for parameter, _ in kept:
                parameter.add_(torch.randn(parameter.shape).to(parameter) * by)
        yield
    finally:
        for parameter, value in kept:
            parameter.copy_(value)
