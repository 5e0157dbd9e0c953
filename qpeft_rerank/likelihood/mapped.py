"""Weights that are mapped from a file: their pages come at once, and once nothing reads them they can go."""

import contextlib
import ctypes
import mmap
import os
import sys
from array import array
from typing import Any

from torch import Tensor, nn

# Not everywhere 4,096 bytes: another number would look up the wrong pages in /proc/self/pagemap.
_PAGE = mmap.PAGESIZE
# Linux's advice to map pages that the file's cache holds without a fault each, since 5.14.
_MADV_POPULATE_READ = 22
# Linux's advice to forget pages. What was written to them goes with them; the file, and the system's cache of it, stay.
_MADV_DONTNEED = 4
# In /proc/self/pagemap, 8 bytes a page: it is swapped out; it is a file's, or shared, and so was never written to.
_SWAPPED, _OF_FILE, _PRESENT = 1 << 62, 1 << 61, 1 << 63
# Of a table, what may be in memory at a time while rows are looked up: a page's neighbours come with it.
_TABLE_BYTES = 16 * 1024 * 1024


def fetch(weight: Tensor) -> None:
    """Before a tensor is read as a whole: have the pages that a file gives it, which cost a third of a second else."""
    if weight.device.type == "cpu":
        _advise(*_pages(weight), _MADV_POPULATE_READ)


def give_back(weight: Tensor) -> None:
    """Let the process forget a tensor's pages where they are a file's, as those of loaded weights are.

    Another reading gets them from the file again, which the system still holds: the next process starts as fast.
    """
    if weight.device.type != "cpu":
        return
    start, length = _pages(weight)
    if _unwritten(start, length):
        _advise(start, length, _MADV_DONTNEED)


def looked_up(embedding: Any, ids: Tensor) -> Tensor:
    """``embedding(ids)``, without the pages of its table that a file gives: a part of it is read, and given back, at a time.

    A batch's rows are all over the table, and with the pages around theirs most of it would be in memory, beside what
    other threads hold at that moment.

    :param ids: ``[...]``.
    :return: ``[..., d]``.
    """
    table: Tensor = embedding.weight
    if type(embedding) is not nn.Embedding or table.device.type != "cpu" or table.requires_grad:
        found: Tensor = embedding(ids)
        give_back(table)
        return found
    made = table.new_empty((*ids.shape, table.shape[1]))
    rows = max(1, _TABLE_BYTES // (table.shape[1] * table.element_size()))
    parts = ids // rows
    for number in parts.unique().tolist():
        first, here = number * rows, parts == number
        part = table[first : first + rows]
        made[here] = part[ids[here] - first]
        give_back(part)
    return made


def _pages(weight: Tensor) -> tuple[int, int]:
    """Address and bytes of the whole pages that hold nothing but a tensor."""
    start = -(-weight.data_ptr() // _PAGE) * _PAGE
    return start, (weight.data_ptr() + weight.nbytes - start) // _PAGE * _PAGE


def _unwritten(start: int, length: int) -> bool:
    """Whether all pages are as a file, or other shared memory, has them: forgetting them loses nothing."""
    if length <= 0:
        return False
    try:
        # Not Path.open: it reads in blocks of its own, which this file does not allow everywhere.
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY)
    except OSError:  # another system than Linux, or one that does not tell
        return False
    try:
        pages = array("Q", os.pread(descriptor, 8 * (length // _PAGE), 8 * (start // _PAGE)))
    except OSError:
        return False
    finally:
        os.close(descriptor)
    if len(pages) < length // _PAGE:
        return False
    # A set: most are alike, as where in memory they are is told to none but the system's administrators.
    return not any(page & _SWAPPED or (page & _PRESENT and not page & _OF_FILE) for page in set(pages))


def _advise(start: int, length: int, advice: int) -> None:
    if sys.platform == "linux" and length > 0:
        with contextlib.suppress(OSError, AttributeError):  # time and memory are all that is at stake
            ctypes.CDLL(None).madvise(ctypes.c_void_p(start), ctypes.c_size_t(length), advice)
