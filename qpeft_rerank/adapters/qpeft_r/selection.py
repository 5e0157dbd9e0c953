"""Choosing hint tokens from scored candidates: vectorised, deterministic, row by row (method 4.2, steps 2-6)."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Similarity = Literal["cosine", "dot"]
_NEVER = -torch.inf


@dataclass(frozen=True, slots=True)
class Pool:
    """Candidate hints of a batch.

    :param values: what ranks them, float32 ``[batch, pool]``; minus infinity for one that cannot be taken.
    :param ids: their token ids, ``[batch, pool]``.
    """

    values: Tensor
    ids: Tensor


@dataclass(frozen=True, slots=True)
class Rules:
    """How hints are chosen from a pool.

    :param distinct: filter d.
    :param not_in: filter q: token ids of the query ``[batch, n]``, with -1 as padding; or None.
    :param dropped: filters s and a, and special tokens: ``[vocabulary]``.
    :param special: special tokens alone, ``[vocabulary]``.
    :param limit: take only so many of the best entries into account, or None.
    :param draws: the authors' way of refilling: numbers in [0, 1) ``[batch, k]``, to draw with replacement
        where fewer than k entries are left; where none is, the list is taken with its duplicates. Or None.
    """

    distinct: bool
    not_in: Tensor | None
    dropped: Tensor
    special: Tensor
    limit: int | None = None
    draws: Tensor | None = None


def exact(tensor: Tensor) -> Tensor:
    """A tensor in float64: sums in it, rounded back to float32, do not depend on the batch around a row.

    Apple's GPUs have no float64, so theirs move to the CPU.
    """
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def similarity(query: Tensor, tokens: Tensor, kind: Similarity, precision: torch.dtype) -> Tensor:
    """Similarity of query tokens ``[..., n, d]`` and others ``[..., m, d]``: ``[..., n, m]`` of this precision.

    Only what goes in and comes out is rounded to it, so that equal tokens tie exactly.
    """
    device = query.device
    query, tokens = exact(query.to(precision)), exact(tokens.to(precision))
    if kind == "cosine":
        query = torch.nn.functional.normalize(query, dim=-1)
        tokens = torch.nn.functional.normalize(tokens, dim=-1)
    return (query @ tokens.transpose(-1, -2)).to(precision).to(device)


def _sortable(tensor: Tensor) -> Tensor:
    """Where whole numbers are sorted as they are: Apple's GPUs take 64 bits for 32, and some releases lose long rows."""
    return tensor.cpu() if tensor.device.type == "mps" else tensor


def best(values: Tensor, count: int) -> Tensor:
    """Places of the ``count`` largest values ``[..., count]``, the largest first, equal ones by their place.

    ``topk`` and ``sort`` promise no order among equals on every device, so value and place become one
    whole number: a float's bits, read as sign and magnitude, order as the float does.
    """
    device, values = values.device, _sortable(values)
    bits = values.float().view(torch.int32).long()
    ordered = torch.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
    places = torch.arange(values.shape[-1], device=values.device)
    return (ordered * 2**32 - places).topk(min(count, values.shape[-1])).indices.to(device)


def first_of_equals(ids: Tensor) -> Tensor:
    """True at the first place of each id in its row: ``[batch, pool]``."""
    ordered, order = _sortable(ids).sort(dim=1, stable=True)
    fresh = torch.ones_like(ordered, dtype=torch.bool)
    fresh[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    return torch.zeros_like(fresh).scatter(1, order, fresh).to(ids.device)


def choose(pool: Pool, rules: Rules, width: int, k: int) -> tuple[Tensor, Tensor]:
    """Fill ``width`` hint slots.

    :return: places in the pool ``[batch, width]``, and how many different entries there were to choose
        from ``[batch]``; where that is 0 the places mean nothing. Fewer entries than slots repeat in order.
    """
    order = best(pool.values, rules.limit or pool.values.shape[1])
    ids = pool.ids.gather(1, order)
    real = pool.values.gather(1, order) > _NEVER
    # The first occurrence among real entries: those that cannot be taken rank last anyway.
    distinct = real & first_of_equals(ids) if rules.distinct else real
    keep = distinct & ~rules.dropped[ids]
    if rules.not_in is not None:
        keep &= ~(ids.unsqueeze(2) == rules.not_in.unsqueeze(1)).any(2)
    if rules.draws is None:
        keep = _or_else(_or_else(keep, distinct & ~rules.special[ids]), distinct)
        unfiltered = torch.zeros_like(keep[:, 0])
    else:
        unfiltered = ~keep.any(1)
        keep = _or_else(keep, real)
    count = keep.sum(1)
    places = torch.arange(keep.shape[1], device=ids.device)
    kept = (
        _sortable(torch.where(keep, places, keep.shape[1])).sort(1).values.to(ids.device).clamp_max(keep.shape[1] - 1)
    )
    slot = torch.arange(width, device=ids.device).remainder(count.clamp_min(1).unsqueeze(1))
    if rules.draws is not None:
        drawn = torch.minimum((rules.draws[:, :width] * count.unsqueeze(1)).long(), (count - 1).unsqueeze(1))
        slot = torch.where(((count < k) & ~unfiltered).unsqueeze(1), drawn, slot)
    return order.gather(1, kept.gather(1, slot)), count


def _or_else(keep: Tensor, otherwise: Tensor) -> Tensor:
    """A row's mask, or, where it keeps nothing, the other one."""
    return torch.where(keep.any(1, keepdim=True), keep, otherwise)
