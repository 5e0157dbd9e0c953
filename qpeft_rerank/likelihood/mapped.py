"""Weights that are mapped from a file: their pages, once nothing reads them, can go."""

import contextlib
import ctypes
import sys

from torch import Tensor

# Linux's advice to drop pages that their file can give again. Unlike MADV_DONTNEED it keeps what was written to.
_MADV_PAGEOUT = 21
_PAGE = 4096


def give_back(weight: Tensor) -> None:
    """Let the system forget a tensor's pages where they are a file's, as those of loaded weights are."""
    if sys.platform != "linux":
        return
    start = -(-weight.data_ptr() // _PAGE) * _PAGE
    length = (weight.data_ptr() + weight.nbytes - start) // _PAGE * _PAGE
    if length > 0:
        with contextlib.suppress(OSError, AttributeError):  # memory is all that is at stake
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), _MADV_PAGEOUT)
