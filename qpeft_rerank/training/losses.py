"""Training losses over groups of one positive and n negatives.

All take mean log-probabilities per target token ``[groups, 1 + n]`` (method section 3.4, negated), the
positive in column 0, and ``real`` ``[groups, 1 + n]``, False where a group has fewer negatives. All
return a loss per group ``[groups]``, in nats per token; a step's loss is their mean. A group's loss
depends on no other group, so groups may be computed in any parts.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from qpeft_rerank.errors import InputError

GroupLoss = Callable[[Tensor, Tensor], Tensor]
# Of margins and temperatures; beyond it float32 shows no difference between passages.
_LARGEST = 1e4
LOSSES = ("pointwise+hinge", "pointwise", "hinge", "contrastive")


def pointwise(logs: Tensor, real: Tensor) -> Tensor:
    """L_point: the negative log-likelihood of the question given its positive passage."""
    return -logs[:, 0]


def hinge(logs: Tensor, real: Tensor, margin: float) -> Tensor:
    """L_pair: mean over the group's negatives of ``max(0, l(d+) - l(d-) + margin)``, ``l = -logs``.

    A group without negatives has loss 0.
    """
    gaps = (logs[:, 1:] - logs[:, :1] + margin).clamp(min=0)
    negatives = real[:, 1:]
    return torch.where(negatives, gaps, 0.0).sum(1) / negatives.sum(1).clamp(min=1)


def pointwise_hinge(logs: Tensor, real: Tensor, margin: float) -> Tensor:
    """The paper's loss: L_pair + L_point with equal weights (method section 5)."""
    return pointwise(logs, real) + hinge(logs, real, margin)


def contrastive(logs: Tensor, real: Tensor, temperature: float) -> Tensor:
    """Localized contrastive: ``-log softmax`` of the positive among the group, at a temperature.

    Nats per token differ by tenths between passages; a temperature below 1 spreads them.
    """
    scaled = (logs / temperature).masked_fill(~real, float("-inf"))
    return -torch.log_softmax(scaled, dim=1)[:, 0]


def make_loss(name: str, margin: float, temperature: float) -> GroupLoss:
    """The loss called ``name`` (one of :data:`LOSSES`) as a function of ``logs`` and ``real``."""
    if not 0 <= margin <= _LARGEST:
        raise InputError(f"--margin {margin}: give nats per token, 0 to {_LARGEST:g}")
    if not 1 / _LARGEST <= temperature <= _LARGEST:
        raise InputError(f"--temperature {temperature}: give nats per token, {1 / _LARGEST:g} to {_LARGEST:g}")
    if name == "pointwise":
        return pointwise
    if name == "hinge":
        return partial(hinge, margin=margin)
    if name == "contrastive":
        return partial(contrastive, temperature=temperature)
    if name == "pointwise+hinge":
        return partial(pointwise_hinge, margin=margin)
    raise InputError(f"--loss {name}: give {', '.join(LOSSES)}")


def pad_groups(flat: Tensor, sizes: list[int]) -> tuple[Tensor, Tensor]:
    """Lay the values of groups ``[sum of sizes]`` out as ``[groups, longest]``, with their mask."""
    width = max(sizes)
    rows = [torch.nn.functional.pad(part, (0, width - len(part))) for part in flat.split(sizes)]
    real = torch.tensor([[place < size for place in range(width)] for size in sizes], device=flat.device)
    return torch.stack(rows), real
