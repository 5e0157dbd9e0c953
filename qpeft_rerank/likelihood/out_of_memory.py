"""Work that is done in smaller parts where memory runs out."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

from qpeft_rerank.errors import InputError

Made = TypeVar("Made")


def attempt(compute: Callable[[], Made]) -> Made | None:
    """What ``compute`` makes, or None where memory runs out: then nothing of the failed work is held any more."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


@contextmanager
def fitting(model: str, precision: str, device: torch.device) -> Iterator[None]:
    """Inside the context a model is put on its device.

    :raises InputError: if memory runs out meanwhile.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            f"{model}: does not fit into the memory of {device} in {precision}; take a smaller --dtype, another "
            "--device or a smaller --model"
        ) from None


@contextmanager
def fitting_optimizer() -> Iterator[None]:
    """Inside the context an optimizer makes its first step, for which it takes its memory: twice what learns.

    :raises InputError: if memory runs out meanwhile.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(
            "out of memory for the optimizer, which takes twice the memory of what learns; give the same command "
            "again with a smaller --batch-tokens, or train less (--option embeddings=frozen)"
        ) from None


# A GPU of Apple's in an error of no kind of its own; a CPU, of which the second is Windows'; libraries of CUDA's.
_TOLD = ("out of memory", "can't allocate memory", "not enough memory", "_STATUS_ALLOC_FAILED")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _TOLD)
