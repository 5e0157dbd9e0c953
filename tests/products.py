"""What float32 products are computed with, whatever the process lets PyTorch make of them."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from qpeft_rerank.likelihood import linears

MATMULS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)
WHOLE = ["ieee"] * len(MATMULS)


def settings() -> list[str]:
    return [of.fp32_precision for of in MATMULS]


def watched(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """A list that gets the settings of each product of a layer from now on."""
    seen: list[list[str]] = []

    def looked_at(product: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def looked(*given: Any) -> torch.Tensor:
            if given[0].shape[-1] > 2:  # a product of ones, which tries out what works here, is exact in any way
                seen.append(settings())
            return product(*given)

        return looked

    # MKL's products, and oneDNN's, which take their place where there is AVX-512.
    for owner, name in ((torch.nn.functional, "linear"), (linears, "_linear")):
        monkeypatch.setattr(owner, name, looked_at(getattr(owner, name)))
    return seen
