"""Processes forked from one that has a model, as workers of servers and of ``multiprocessing`` are."""

import os
from functools import cache, partial

import torch


@cache
def outlive_forks() -> None:
    """Let what is forked from this process from now on compute in one thread.

    OpenMP's other threads do not come along, and the first product would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))
