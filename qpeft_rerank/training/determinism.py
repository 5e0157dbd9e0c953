"""Equal steps that give equal bits, so that a training that was killed ends as one that was not."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Equal steps give equal bits within the block, where torch knows how; see :func:`strictly` for attention."""
    settings: Any = torch.utils.deterministic
    fills = settings.fill_uninitialized_memory
    with _algorithms(warn_only=True):
        # That is for finding bugs; it costs time on every allocation.
        settings.fill_uninitialized_memory = False
        try:
            yield
        finally:
            settings.fill_uninitialized_memory = fills


@contextlib.contextmanager
def strictly(wanted: bool) -> Iterator[None]:
    """Within the block, which is one of :func:`deterministic`, refuse what gives no equal bits.

    On a GPU, attention adds up its gradients in any order unless told so.

    :param wanted: if not, nothing changes.
    :raises RuntimeError: of which :func:`has_no_way` tells.
    """
    with _algorithms(warn_only=False) if wanted else contextlib.nullcontext():
        yield


def has_no_way(error: BaseException) -> bool:
    """Whether an error within :func:`strictly` means that torch knows no way to equal bits for an operation."""
    return isinstance(error, RuntimeError) and "determinis" in str(error)  # each library says it in words of its own


@contextlib.contextmanager
def _algorithms(warn_only: bool) -> Iterator[None]:
    before, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)
