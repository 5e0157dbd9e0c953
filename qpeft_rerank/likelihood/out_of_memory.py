"""Work that is done in smaller parts where memory runs out."""

from collections.abc import Callable
from typing import TypeVar

import torch

Made = TypeVar("Made")


def attempt(compute: Callable[[], Made]) -> Made | None:
    """What ``compute`` makes, or None where memory runs out: then nothing of the failed work is held any more."""
    try:
        return compute()
    except RuntimeError as error:
        if not is_out_of_memory(error):
            raise
    return None


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error means that memory ran out, on a GPU or a CPU."""
    told = ("out of memory", "can't allocate memory")  # a GPU of Apple's in an error of no kind of its own; a CPU
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in told)
