"""Imports without what libraries log meanwhile."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class _Quiet:
    """Who is within :func:`unwarned`: logging has one switch for the whole process."""

    lock, inside, before = threading.Lock(), 0, 0


_QUIET = _Quiet()


@contextmanager
def unwarned() -> Iterator[None]:
    """No warnings logged within the block: for imports. Where torchao is installed, transformers imports it, and it
    tells about each GPU kernel that this machine has no use for.
    """
    # The first of several threads that are in it at a time finds what the last one restores.
    with _QUIET.lock:
        if not _QUIET.inside:
            _QUIET.before = logging.root.manager.disable
            logging.disable(logging.WARNING)
        _QUIET.inside += 1
    try:
        yield
    finally:
        with _QUIET.lock:
            _QUIET.inside -= 1
            if not _QUIET.inside:
                logging.disable(_QUIET.before)
