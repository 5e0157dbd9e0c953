"""A model's layers compiled by ``torch.compile``: what lies between products becomes a few kernels instead of dozens.

It takes some tens of seconds before the first score, and a C++ compiler on a CPU, Triton on a GPU; written for GPUs,
where small kernels are what costs beside products, and the same on a CPU. Nothing here is compiled unless asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.likelihood.linears import PackedLinear

_Made = TypeVar("_Made")
# Rounding to a narrower dtype and back is part of what is computed, so it is not left out.
_SETTINGS: dict[str, Any] = {"options": {"emulate_precision_casts": True}}
# Kinds of batches and layers for which one function is compiled; beyond them PyTorch would go on uncompiled, unasked.
_VARIANTS = 64


def compiled(function: Callable[..., _Made], sizes: int) -> Callable[..., _Made]:
    """The function compiled when it is first called, once for tensors of all sizes.

    :param sizes: how many of the first dimensions of its tensors change from batch to batch.
    """
    _make_room()
    made = torch.compile(function, **_SETTINGS)

    def call(*given: Any) -> _Made:
        for tensor in given:
            if isinstance(tensor, Tensor):
                torch._dynamo.maybe_mark_dynamic(tensor, list(range(sizes)))
        found: _Made = made(*given)
        return found

    return call


def compile_layers(model: nn.Module) -> None:
    """Compile a model's layers in place, each by itself: those of a kind then share what was made for the first."""
    _make_room()
    leave_out_packed(model)
    for layers in _stacks(model):
        for layer in layers:
            layer.compile(dynamic=True, **_SETTINGS)


def leave_out_packed(model: nn.Module) -> None:
    """Keep compiling out of oneDNN's layers, whose weights have a layout that it cannot read."""
    for layer in model.modules():
        if isinstance(layer, PackedLinear) and "forward" not in vars(layer):
            for name in ("forward", "silu", "times"):
                setattr(layer, name, torch.compiler.disable(getattr(layer, name)))


def refusal(model: str, error: BaseException) -> InputError:
    """What to say of an error by which compiling ended."""
    return InputError(
        f"--compile: PyTorch cannot compile {model} here ({first_line(error)}); leave it out, or see to a C++ compiler, "
        "such as g++"
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


def uncompiled() -> AbstractContextManager[Any]:
    """Inside the context, nothing is compiled, and what was is not used."""
    return torch.compiler.set_stance("force_eager")


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
