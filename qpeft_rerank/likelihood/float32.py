"""Float32 products that are float32's, whatever the process lets PyTorch make of them elsewhere."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

# Of what PyTorch may round the factors of a float32 product to.
_SHORTER = ("tf32", "bf16")


@contextmanager
def whole_products() -> Iterator[None]:
    """Inside the context, factors of float32 products are not rounded, where this process lets that be done.

    It is a setting of the process: of a notebook's for its own models' sake, and of the environment that NVIDIA's
    containers come with. A score would be off by a hundred times what float32 promises.
    """
    mkldnn: Any = torch.backends.mkldnn
    settings: tuple[Any, ...] = (torch.backends.cuda.matmul, mkldnn.matmul)
    before = [of.fp32_precision for of in settings]
    if not any(asked in _SHORTER for asked in before):
        yield
        return
    together = _together()
    if together is not None:
        torch.set_float32_matmul_precision("highest")
    _set(settings, ["ieee"] * len(settings))
    try:
        yield
    finally:
        if together is not None:
            torch.set_float32_matmul_precision(together)
        _set(settings, before)


def _together() -> str | None:
    """The same by its older name, which must not contradict the newer ones; None where it already does, and no more counts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that there are newer ones
        try:
            return torch.get_float32_matmul_precision()
        except RuntimeError:
            return None


def _set(settings: tuple[Any, ...], asked: list[str]) -> None:
    for of, one in zip(settings, asked, strict=True):
        of.fp32_precision = one
