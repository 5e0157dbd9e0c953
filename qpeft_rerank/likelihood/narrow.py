"""A linear layer that multiplies in bfloat16 and keeps all else in float32, wherever PyTorch runs."""

import torch
from torch import Tensor, nn

from qpeft_rerank.likelihood.mapped import fetch, give_back
from qpeft_rerank.likelihood.processor import as_multiplied


class NarrowLinear(nn.Linear):
    """A linear layer that multiplies in a narrower dtype than its inputs' and outputs'.

    :param linear: the layer that it replaces.
    :param products: dtype of the weights and of what they are multiplied with.
    """

    #: See :func:`plain_products`.
    plain = False

    def __init__(self, linear: nn.Linear, products: torch.dtype) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.products = products
        fetch(linear.weight)
        rounded = linear.weight.detach().to(products)
        native = rounded.device.type != "cpu" or as_multiplied(products) == products
        self.weight = nn.Parameter(rounded if native else rounded.float(), requires_grad=False)
        self.bias = linear.bias
        give_back(linear.weight)

    def forward(self, states: Tensor) -> Tensor:
        """``[..., inputs]`` to ``[..., outputs]`` of the same dtype."""
        if self.plain:
            return nn.functional.linear(states, self.weight.to(states.dtype), self.bias)
        rows = states.to(self.products).to(self.weight.dtype)
        made = nn.functional.linear(rows, self.weight).to(self.products).to(states.dtype)
        return made if self.bias is None else made + self.bias


def as_kept(layer: nn.Module, part: str, tensor: Tensor) -> Tensor:
    """What a layer that took the place of a plain one keeps of its ``weight`` or ``bias``: the same, rounded perhaps."""
    if part != "weight" or not isinstance(layer, NarrowLinear):
        return tensor
    return tensor.to(layer.products).to(layer.weight.dtype)
