"""A model's layers compiled by ``torch.compile``: what lies between products becomes a few kernels instead of dozens.

It takes some tens of seconds before the first score, and needs a C++ compiler on a CPU, Triton on a GPU; written for GPUs,
where small kernels cost beside products, and the same on a CPU. Nothing is compiled unless asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.likelihood.linears import PackedLinear

_Made = TypeVar("_Made")
# Where products alone are narrow, rounding for them is part of what is computed, and not to be left out (on a CPU that
# is heeded from PyTorch 2.13 on).
_ROUNDING: dict[str, Any] = {"options": {"emulate_precision_casts": True}}
# Kinds of batches and layers for which one function is compiled; beyond them PyTorch would go on uncompiled, unasked.
_VARIANTS = 64


def compiled(function: Callable[..., _Made], sizes: int) -> Callable[..., _Made]:
    """The function compiled when it is first called, once for tensors of all sizes.

    :param sizes: how many of the first dimensions of its tensors change from batch to batch.
    """
    _make_room()
    made = torch.compile(function, **_ROUNDING)

    def call(*given: Any) -> _Made:
        for tensor in given:
            if isinstance(tensor, Tensor):
                torch._dynamo.maybe_mark_dynamic(tensor, list(range(sizes)))
        found: _Made = made(*given)
        return found

    return call


def compile_layers(model: nn.Module, rounds: bool) -> None:
    """Compile a model's layers in place, each by itself: those of a kind then share what was made for the first.

    :param rounds: whether products are narrower than states.
    :raises ValueError: if it has no list of layers.
    """
    _make_room()
    leave_out_packed(model)
    stacks = list(_stacks(model))
    if not stacks:
        raise ValueError("no list of layers is among its modules")
    for layers in stacks:
        for layer in layers:
            layer.compile(dynamic=True, **(_ROUNDING if rounds else {}))


def leave_out_packed(model: nn.Module) -> None:
    """Keep compiling out of oneDNN's layers, whose weights have a layout that it cannot read."""
    for layer in model.modules():
        if isinstance(layer, PackedLinear) and "forward" not in vars(layer):
            for name in ("forward", "silu", "times"):
                setattr(layer, name, torch.compiler.disable(getattr(layer, name)))


def refusal(model: str, error: BaseException) -> InputError:
    """What to say of an error by which compiling ended."""
    return InputError(
        f"--compile: PyTorch cannot compile {model} here ({first_line(error)}); leave it out, or see to what it needs: "
        "a C++ compiler and Python's headers, on a GPU Triton"
    )


@contextmanager
def refused(model: str) -> Iterator[None]:
    """Inside the context, what compiling fails at is refused: batches of another shape than any before compile anew.

    :raises InputError: saying so.
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch._dynamo.exc.TorchDynamoException):
            raise
        raise refusal(model, error) from None


def _stacks(model: nn.Module) -> Iterator[nn.ModuleList]:
    """Lists of layers, without the lists inside of layers."""
    for part in model.children():
        if isinstance(part, nn.ModuleList):
            yield part
        else:
            yield from _stacks(part)


def _make_room() -> None:
    import torch._dynamo.config as settings

    settings.recompile_limit = max(settings.recompile_limit, _VARIANTS)
