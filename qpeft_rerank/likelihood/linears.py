"""The linear layers of a frozen model, laid out once so that the processor multiplies as fast as it can.

PyTorch gives float32 matrix products on a CPU to MKL, which on AVX-512 processors of other makers than Intel
uses half of the vector unit; oneDNN, which the same PyTorch brings for lower precisions, uses all of it. And
products in bfloat16 need not make the states between them bfloat16: kept in float32, they lose an order of
magnitude less. Where the processor has no such products, numbers are rounded to bfloat16 and multiplied in float32:
the same up to the order of summation, and several times as fast as PyTorch's imitation.
"""

import contextlib
import copy
import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from qpeft_rerank.likelihood.mapped import fetch, give_back
from qpeft_rerank.likelihood.narrow import NarrowLinear
from qpeft_rerank.likelihood.processor import as_multiplied

# oneDNN compiles code for each number of rows and never lets all of it go: 2 MB a batch. Multiples of this are few.
ROWS = 16
# Tokens of the vocabulary whose logits are computed at a time: with a batch's rows they fit into a processor's cache.
_SLICE = 2048


class _Frozen(nn.Linear):
    """A layer whose products are with something made of its weights, which therefore must not change."""

    def __deepcopy__(self, memo: dict[int, Any]) -> nn.Linear:
        """A plain layer: copies are made to be trained, as PEFT does with what ``modules_to_save`` names."""
        return linear_of(copy.deepcopy(self.weight, memo), copy.deepcopy(self.bias, memo))

    @property
    def parametrized(self) -> bool:
        """Whether its weights are computed from others, as PEFT has it with those that ``target_parameters`` names."""
        return parametrize.is_parametrized(self, "weight")


class PackedLinear(_Frozen):
    """The same through oneDNN, for float32 and bfloat16 products on a CPU. Frozen; gradients reach its inputs.

    ``weight`` stays what it was, for those who look at it; a copy in oneDNN's own layout does the work. A row of
    the output depends on its own row of the input only, to the last bit.
    """

    #: See :func:`plain_products`.
    plain = False

    def __init__(self, linear: nn.Linear, products: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        self.multiply_in(products)

    def multiply_in(self, products: torch.dtype) -> None:
        """Take products of this dtype from now on."""
        self.products = products
        fetch(self.weight)
        self.packed = _pack(self.weight.detach(), products)
        self._transposed: Tensor | None = None
        give_back(self.weight)

    def forward(self, states: Tensor) -> Tensor:
        """``[..., inputs]`` to ``[..., outputs]`` of the same dtype."""
        if self.plain or self.parametrized:
            return super().forward(states)
        made: Tensor = _Product.apply(states, self) if torch.is_grad_enabled() else _multiply(states, self, self.packed)
        return made if self.bias is None else made + self.bias

    def silu(self, states: Tensor) -> Tensor:
        """``silu(forward(states))`` in one operation, for states in the products' dtype; without gradients."""
        if self.plain:
            return nn.functional.silu(self(states))
        rows = in_rows(states, self)
        return out_of_rows(_linear(rows, self.packed, self._narrow_bias, "swish"), states.shape[:-1])

    def times(self, states: Tensor, others: Tensor) -> Tensor:
        """``forward(states) * others`` in one operation, all in the products' dtype; without gradients."""
        if self.plain:
            return self(states) * others
        rows, factors = in_rows(states, self), _in_rows(others, others.shape[-1], self.products)
        dtype = self.packed.dtype
        made: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
            rows.to(dtype), factors.to(dtype), self.packed, self._narrow_bias, "mul"
        )
        return out_of_rows(made.to(self.products), states.shape[:-1])

    @property
    def _narrow_bias(self) -> Tensor | None:
        return None if self.bias is None else self.bias.to(self.products).to(self.packed.dtype)

    def backward_weight(self) -> Tensor:
        """The weights as gradients meet them; made when training first asks."""
        if self._transposed is None:
            self._transposed = _pack(self.weight.detach().t(), self.products)
        return self._transposed


class SlicedLinear(_Frozen):
    """The output layer as layers after one another, each of a part of the vocabulary.

    What is computed of a part's logits is computed while they are in the processor's cache; and MKL's product with
    a vocabulary's whole matrix takes half as long again where there are few rows.

    :param linear: the layer that it replaces.
    :param packed: whether the parts are :class:`PackedLinear`.
    """

    def __init__(self, linear: nn.Linear, packed: bool) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias
        #: Layers whose outputs, joined, are this one's. Not among its modules: their weights are its own.
        self.parts = tuple(PackedLinear(part, torch.float32) if packed else part for part in slices(linear))

    def forward(self, states: Tensor) -> Tensor:
        """``[..., inputs]`` to ``[..., vocabulary]``."""
        if self.parametrized:
            return super().forward(states)
        return torch.cat([part(states) for part in self.parts], -1)


def slices(linear: nn.Linear) -> Iterator[nn.Linear]:
    """Frozen layers of a few thousand outputs each, whose outputs, joined, are this one's; their weights are its own."""
    biases = [None] * -(-linear.out_features // _SLICE) if linear.bias is None else linear.bias.split(_SLICE)
    return map(linear_of, linear.weight.split(_SLICE), biases)


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A frozen layer with these parameters, not copied.

    Nothing is drawn for it first, not even on the meta device, for which some versions of PyTorch import much.
    """
    made = nn.Linear.__new__(nn.Linear)
    nn.Module.__init__(made)
    made.out_features, made.in_features = weight.shape
    for name, tensor in (("weight", weight), ("bias", bias)):
        made.register_parameter(name, None if tensor is None else frozen(tensor))
    return made


def frozen(tensor: Tensor) -> nn.Parameter:
    """A parameter that does not train, its numbers not copied."""
    return nn.Parameter(tensor.detach(), requires_grad=False)


class _Product(torch.autograd.Function):
    """A product with frozen packed weights."""

    @staticmethod
    def forward(context: Any, states: Tensor, layer: PackedLinear) -> Tensor:
        context.layer = layer
        return _multiply(states, layer, layer.packed)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _multiply(gradients[0], context.layer, context.layer.backward_weight()), None


def _multiply(states: Tensor, layer: PackedLinear, packed: Tensor) -> Tensor:
    rows = _in_rows(states, states.shape[-1], layer.products)
    return out_of_rows(_linear(rows, packed), states.shape[:-1]).to(states.dtype)


def _linear(rows: Tensor, packed: Tensor, bias: Tensor | None = None, then: str = "none") -> Tensor:
    """Products with packed weights, rounded to the rows' dtype."""
    made: Tensor = torch.ops.mkldnn._linear_pointwise(rows.to(packed.dtype), packed, bias, then, [], "")
    return made.to(rows.dtype)


def in_rows(states: Tensor, layer: nn.Module) -> Tensor:
    """States as a layer multiplies them quickest, so that layers after the same states share one copy.

    :param states: ``[..., inputs]``; the inputs may be several dimensions.
    :return: what such a layer takes without another copy, perhaps with rows added; :func:`out_of_rows` drops them.
    """
    if not isinstance(layer, PackedLinear):
        return states if states.shape[-1] == layer.in_features else states.flatten(-2)
    return _in_rows(states, layer.in_features, layer.products)


def out_of_rows(made: Tensor, shape: Iterable[int]) -> Tensor:
    """A layer's outputs for states of :func:`in_rows`: ``[*shape, outputs]``.

    :param shape: of the states, without their inputs.
    """
    shape = tuple(shape)
    return made.view(-1, made.shape[-1])[: math.prod(shape)].view(*shape, made.shape[-1])


def _in_rows(states: Tensor, width: int, dtype: torch.dtype) -> Tensor:
    """``[rows, width]``, rows of zeros added up to a multiple of :data:`ROWS`."""
    count = states.numel() // width
    missing = -count % ROWS
    if not missing:
        return states.to(dtype).reshape(count, width)
    rows = torch.empty((count + missing, width), dtype=dtype, device=states.device)
    rows[:count].view(states.shape).copy_(states)
    rows[count:] = 0
    return rows


def _pack(weight: Tensor, products: torch.dtype) -> Tensor:
    """Weights rounded to the products' dtype, laid out for the one they are computed in."""
    rounded = weight.to(products).to(as_multiplied(products)).contiguous()
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(rounded, None)
    return packed


def can_pack(device: torch.device) -> bool:
    """Whether :class:`PackedLinear` works here and is the faster way."""
    return device.type == "cpu" and torch.backends.cpu.get_cpu_capability() == "AVX512" and packs()


def packs() -> bool:
    """Whether :class:`PackedLinear` works on this machine's CPU, be it faster or not."""
    try:
        weight, states = torch.eye(3, 2), torch.ones(2, 2)
        return bool(torch.equal(_linear(states, _pack(weight, torch.float32)), nn.functional.linear(states, weight)))
    except (AttributeError, RuntimeError):  # a PyTorch without oneDNN, or with other operators
        return False


def replace_linears(model: nn.Module, products: torch.dtype, head: nn.Module | None) -> None:
    """Replace a frozen float32 model's linear layers by faster ones, in place.

    :param products: float32, or bfloat16 for products alone.
    :param head: the output layer, whose products stay float32: a logit's rounding would be the score's.
    """
    device = next(model.parameters()).device
    packed = can_pack(device)
    layers = [(owner, name, layer) for owner in model.modules() for name, layer in owner.named_children()]
    for owner, name, layer in layers:
        if type(layer) is not nn.Linear:
            continue
        if layer is head:
            if device.type == "cpu":
                setattr(owner, name, SlicedLinear(layer, packed))
        elif packed:
            setattr(owner, name, PackedLinear(layer, products))
        elif products != torch.float32:
            setattr(owner, name, NarrowLinear(layer, products))
    model.train(model.training)  # the new layers, too, are in the mode that the model is in


def products_of(precision: str) -> torch.dtype:
    """In what dtype the linear layers of a model with float32 states multiply."""
    return torch.bfloat16 if precision == "mixed" else torch.float32


def keeps_weights(model: nn.Module) -> bool:
    """Whether :func:`change_products` can undo what :func:`replace_linears` did."""
    return not any(isinstance(layer, NarrowLinear) for layer in model.modules())


def change_products(model: nn.Module, products: torch.dtype) -> None:
    """Make a model what :func:`replace_linears` would have made of it with these products, in place."""
    for layer in model.modules():
        if isinstance(layer, PackedLinear):
            layer.multiply_in(products)


@contextlib.contextmanager
def plain_products(model: nn.Module) -> Iterator[None]:
    """Inside the context, products as PyTorch computes them, in the dtype of the states, of the weights that there are."""
    changed = [layer for layer in model.modules() if isinstance(layer, PackedLinear | NarrowLinear)]
    kept = [layer.products for layer in changed]
    for layer in changed:
        layer.plain, layer.products = True, torch.float32
    try:
        yield
    finally:
        for layer, products in zip(changed, kept, strict=True):
            layer.plain, layer.products = False, products
