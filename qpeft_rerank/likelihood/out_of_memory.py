"""Work that is done in smaller parts where memory runs out."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import torch

from qpeft_rerank.errors import InputError, first_line

Made = TypeVar("Made")


class NoRoomError(InputError):
    """The smallest part of some work does not fit into memory."""


def attempt(compute: Callable[[], Made]) -> Made | None:
    """What ``compute`` makes, or None where memory runs out: then nothing of the failed work is held any more."""
    try:
        return compute()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    return None


@contextmanager
def fitting(refusal: str) -> Iterator[None]:
    """Inside the context memory is taken that cannot be taken in parts.

    :param refusal: what to say, and to advise, where it runs out.
    :raises InputError: saying it.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise InputError(refusal) from None


@contextmanager
def fitting_model(model: str, precision: str, device: torch.device) -> Iterator[None]:
    """:func:`fitting` for a model that is put on its device, which may be there and yet not to be had.

    :raises InputError: saying what of the two it is.
    """
    with fitting(
        f"{model}: does not fit into the memory of {device} in {precision}; take a smaller --dtype, another --device "
        "or a smaller --model"
    ):
        try:
            yield
        except torch.AcceleratorError as error:
            if is_out_of_memory(error):
                raise
            raise InputError(f"{device}: cannot be used ({first_line(error)}); take another --device") from None


def fitting_adapter(adapter: str, device: torch.device) -> AbstractContextManager[None]:
    """:func:`fitting` for an adapter that is made on its model's device."""
    return fitting(
        f"{adapter}: does not fit into the memory of {device} beside the model; take a smaller --dtype, another "
        "--device or a smaller --model"
    )


# A GPU of Apple's in errors of no kind of their own, the second of one tensor that is too large; a CPU, of which the
# second is Windows'; libraries of CUDA's.
_TOLD = (
    "out of memory",
    "Invalid buffer size",
    "can't allocate memory",
    "not enough memory",
    "_STATUS_ALLOC_FAILED",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a GPU or a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _TOLD)
