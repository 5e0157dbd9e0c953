"""The job that tells how fast this machine multiplies matrices: no scorer can be faster."""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from eval.benchmarks.work import linear_shapes
from qpeft_rerank.likelihood.language_model import DTYPES
from qpeft_rerank.likelihood.linears import PackedLinear, can_pack
from qpeft_rerank.likelihood.narrow import NarrowLinear
from qpeft_rerank.likelihood.sources import find_model

# Of square products, the largest that a dtype without a unit of its own still does in a bearable time.
_SQUARES = (512, 2048)
# Rows of a forward pass of the engine on a CPU, and of one that shows a slow dtype to be slow.
_ROWS, _FEW_ROWS = 2048, 64
_TIMES = 3
_SECONDS = 0.5
_BEARABLE = 0.1


def ceiling(job: dict[str, Any]) -> dict[str, Any]:
    """Operations a second in matrix products: a big square one, and those of the model's own layers.

    Each through the faster of PyTorch's own way and that of the engine's layers.

    :param job: ``model``, ``dtype``, ``threads``.
    """
    torch.set_num_threads(job["threads"])
    mixed = job["dtype"] == "mixed"
    dtype = torch.bfloat16 if mixed else DTYPES[job["dtype"]]
    for size in _SQUARES:
        took = _best_of((size, size), size, dtype, mixed)
        square = 2 * size**3 / took
        if took > _BEARABLE:
            break
    quick = size == _SQUARES[-1]
    rows = _ROWS if quick else _FEW_ROWS
    shapes = _shapes(job["model"])
    seconds = {shape: _best_of(shape, rows, dtype, mixed) for shape in set(shapes)}
    operations = sum(2 * rows * outputs * inputs for outputs, inputs in shapes)
    return {"square": square, "layers": operations / sum(seconds[shape] for shape in shapes)}


def _best_of(shape: tuple[int, int], rows: int, dtype: torch.dtype, mixed: bool) -> float:
    """Seconds of a product of ``[rows, inputs]`` by weights ``[outputs, inputs]``, the faster way."""
    layer = torch.nn.Linear(shape[1], shape[0], bias=False)
    states = torch.randn(rows, shape[1]).to(dtype)
    weight = layer.weight.detach().to(dtype)
    ways: list[Callable[[], object]] = [lambda: functional.linear(states, weight)]
    if dtype in (torch.float32, torch.bfloat16) and can_pack(states.device):
        packed = PackedLinear(layer, dtype)
        ways.append(lambda: packed(states))
    elif mixed:  # which does not imitate products that the processor lacks
        narrow = NarrowLinear(layer, dtype)
        ways.append(lambda: narrow(states))
    with torch.inference_mode():
        return min(map(_best, ways))


def _best(product: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs."""
    product()
    best, begun, count = float("inf"), time.perf_counter(), 0
    while count < _TIMES or time.perf_counter() - begun < _SECONDS:
        start = time.perf_counter()
        product()
        best = min(best, time.perf_counter() - start)
        count += 1
    return best


def _shapes(model: str) -> list[tuple[int, int]]:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(find_model(model).folder)
    with torch.device("meta"):
        return linear_shapes(AutoModelForCausalLM.from_config(config).base_model)
