"""A GPU that is not there: tensors that say they are on one, while the processor computes their numbers.

What real ones refuse is refused: tensors of the processor among those of the GPU. What makes the processor wait for the
GPU is written down.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only

NAME = "cuda:0"
_DEVICE, _HOST = torch.device(NAME), torch.device("cpu")
_aten: Any = torch.ops.aten
# How many numbers come out, or which, depends on numbers that the GPU has yet to compute.
_ASKED = {
    _aten._local_scalar_dense.default,
    _aten.equal.default,
    _aten.masked_select.default,
    _aten.nonzero.default,
    _aten._unique2.default,
    _aten.repeat_interleave.Tensor,
}
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default, _aten._index_put_impl_.default}
_MOVES = {_aten._to_copy.default, _aten.copy_.default}
# Attention in plain operations: what PyTorch has for a GPU in one, it has for no other device.
_MATH = 0


class OnGpu(Tensor):
    """A tensor on the GPU; ``held`` has its numbers."""

    held: Tensor
    device = _DEVICE  # type: ignore[assignment]
    is_cuda = True  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGpu":
        # What is a view of another tensor must not be of another kind than that.
        with torch.inference_mode(False):
            made: OnGpu = torch.Tensor._make_wrapper_subclass(
                cls,
                held.shape,
                strides=held.stride(),
                storage_offset=held.storage_offset(),
                dtype=held.dtype,
                device=_HOST,
            )
        made.held = held
        return made

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # To where another tensor is: PyTorch believes this one to be on the processor.
        if func is Tensor.to and not isinstance(args[0], OnGpu) and isinstance(args[1], OnGpu):
            return args[0].to(_DEVICE, args[1].dtype)
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {}, [])

    def to(self, *args: Any, **kwargs: Any) -> Tensor:  # type: ignore[override]
        copied = kwargs.pop("copy", False)
        device, dtype, *_ = torch._C._nn._parse_to(*args, **kwargs)
        device, dtype = device or _DEVICE, dtype or self.dtype
        if device.type == _DEVICE.type and dtype == self.dtype and not copied:
            return self
        moved: Tensor = _aten._to_copy.default(self, dtype=dtype, device=device)
        return moved

    def cpu(self) -> Tensor:  # type: ignore[override]
        return self.to(_HOST)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"


class _Mode(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _computed(func, args, kwargs or {}, self.waits)


def _computed(func: Any, args: Any, kwargs: dict[str, Any], waits: list[str]) -> Any:
    """What an operation gives, on the device where it is computed."""
    if func is _aten._fused_sdp_choice.default:
        return _MATH
    given = [one for one in tree_iter((args, kwargs)) if isinstance(one, Tensor)]
    there = [one for one in given if isinstance(one, OnGpu)]
    # A number of no dimensions may come from anywhere, as the places may that something is put at or taken from.
    here = [one for one in given if not isinstance(one, OnGpu) and one.dim()]
    if there and here and func not in _MOVES:
        # In a backward pass PyTorch makes zeros where it believes these tensors to be.
        backward = torch._C._current_graph_task_id() != -1
        if func not in _INDEXED or (
            not backward and any(any(one is of for of in (args[0], *args[2:3])) for one in here)
        ):
            raise RuntimeError(f"{func}: expected all tensors to be on the same device, found some on the processor")
        waits.append(f"{func} by the processor's places")
    asked = kwargs.get("device")
    # Where there is a tensor of the GPU, PyTorch says "the processor" of it in gradients.
    moved = asked is not None and (func is _aten._to_copy.default or not there)
    on_gpu = torch.device(asked).type == _DEVICE.type if moved else bool(there)
    if there and _waits(func, args, on_gpu):
        waits.append(str(func))
    known = {id(one.held): one for one in there}
    args, kwargs = tree_map_only(OnGpu, lambda one: one.held, (args, kwargs))
    found = func(*args, **kwargs if asked is None else kwargs | {"device": _HOST, "pin_memory": None})
    if not on_gpu:
        return found
    return tree_map_only(Tensor, lambda one: known[id(one)] if id(one) in known else OnGpu(one), found)


def _waits(func: Any, args: Any, on_gpu: bool) -> bool:
    if func in _INDEXED:
        return any(one.dtype == torch.bool for one in args[1] if one is not None)
    if func is _aten.copy_.default:
        return not isinstance(args[0], OnGpu)
    return func in _ASKED or (func is _aten._to_copy.default and not on_gpu)


@contextmanager
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Inside the context there is a GPU, :data:`NAME`; gives what made the processor wait for it."""
    before = torch._C._only_lift_cpu_tensors()
    replaces = torch.__future__.get_overwrite_module_params_on_conversion()
    with monkeypatch.context() as patch:
        patch.setattr(Tensor, "pin_memory", lambda made: made)
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        patch.setattr(torch.cuda, "is_available", lambda: True)
        patch.setattr(torch.cuda, "device_count", lambda: 1)
        patch.setattr(torch.cuda, "get_device_capability", lambda device=None: (8, 0))
        patch.setattr(torch.cuda, "get_rng_state", lambda device=None: torch.empty(0))
        patch.setattr(torch.cuda, "set_rng_state", lambda state, device=None: None)
        # What torch.tensor makes is then moved where the mode sees it.
        torch._C._set_only_lift_cpu_tensors(True)
        # Else parameters would take over what such a tensor does not have, its memory.
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        try:
            with _Mode() as mode:
                yield mode.waits
        finally:
            torch._C._set_only_lift_cpu_tensors(before)
            torch.__future__.set_overwrite_module_params_on_conversion(replaces)
