"""A heap that stays small: what batches of many shapes leave behind is given back to the system."""

import ctypes
import os
import sys

import torch

# Blocks from this size on, such as logits, are mapped each by itself and unmapped when freed. States between layers
# are smaller, and stay on the heap, where they cost no page faults.
_MAPPED = 8 * 1024 * 1024
_M_MMAP_THRESHOLD = -3
# What may stay free at the heap's end. glibc leaves it at 128 KB once the other size is fixed: then each layer's states
# go back to the system and come again page by page, six or seven percent of the time.
_KEPT_FREE = 64 * 1024 * 1024
_M_TRIM_THRESHOLD = -1
_M_ARENA_MAX = -8
# Compiled products that oneDNN keeps, one for each layer's shape and number of rows, up to a megabyte each: enough for
# the few numbers of rows that most batches have. With 64, compiling took 5 % of the time; by default it keeps 1,024.
_PRODUCTS = 256


def keep_heap_small() -> None:
    """Before the first product: fix how many compiled ones are kept, from which size glibc maps blocks by themselves, and
    for several threads that they share a heap.

    Left alone, it raises that size to 32 MB after the first large block. Logits, of another size in each batch, then
    break the heap into pieces that fit no other. SmolLM2 is as fast either way and takes 30 to 40 MB less on 300 to
    800 pairs; a model of 0.1 million weights, whose time goes into logits, takes 1.7 times as long.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(_PRODUCTS))
    if not sys.platform.startswith("linux"):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_MMAP_THRESHOLD, _MAPPED)
        libc.mallopt(_M_TRIM_THRESHOLD, _KEPT_FREE)
        # Threads that score side by side would have heaps of their own, each with free room of its own: 20 to 80 MB for
        # two threads. With one thread a second heap, of what is done ahead, keeps the first one from breaking up.
        if torch.get_num_threads() > 1 and "MALLOC_ARENA_MAX" not in os.environ:
            libc.mallopt(_M_ARENA_MAX, 1)
    except (OSError, AttributeError):  # another C library
        return
