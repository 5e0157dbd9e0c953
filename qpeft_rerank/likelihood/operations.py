"""What a layer of Llama's kind does between its products: norm, rotary positions, causal attention."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


def causal(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Each token sees itself and what comes before it in its row.

    :param queries: ``[rows, heads, tokens, width]``, keys and values ``[rows, key heads, tokens, width]``.
    :return: as the queries.
    """
    if not _takes_groups(queries):
        keys, values = for_each_head(queries, keys, values)
    grouped = queries.shape[1] != keys.shape[1]
    return functional.scaled_dot_product_attention(
        queries, keys, values, is_causal=True, scale=scale, enable_gqa=grouped
    )


def masked(queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor, scale: float) -> Tensor:
    """Each token sees what a mask lets it see.

    :param queries: and keys and values, as :func:`causal` takes them.
    :param mask: to be added to the logits, ``[rows, 1, tokens, tokens]``.
    """
    keys, values = for_each_head(queries, keys, values)
    return functional.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)


def for_each_head(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values of each head of queries, ``[rows, heads, tokens, width]``, where several share one of keys."""
    each = queries.shape[1] // keys.shape[1]
    return (keys.repeat_interleave(each, 1), values.repeat_interleave(each, 1)) if each > 1 else (keys, values)


def _takes_groups(queries: Tensor) -> bool:
    """Whether a kernel is there for fewer heads of keys than of queries; elsewhere PyTorch would hold all logits.

    On a GPU it is FlashAttention's: in half precision, without a mask, from Ampere on, for heads that are not too wide.
    """
    if queries.device.type != "cuda":
        return queries.device.type == "cpu"
    narrow = queries.dtype != torch.float32 and queries.shape[-1] <= 256
    return narrow and torch.cuda.get_device_capability(queries.device) >= (8, 0)


def normed(states: Tensor, norm: Any) -> Tensor:
    """Root mean square norm of the last dimension, ``[..., width]`` in float32, in and out.

    :param norm: its ``weight`` and, as ``variance_epsilon`` or ``eps``, what keeps it from dividing by zero.
    """
    epsilon = getattr(norm, "variance_epsilon", None)
    if epsilon is None:
        epsilon = norm.eps
    if states.device.type != "cpu":  # one kernel there, where PyTorch has one
        return functional.rms_norm(states, states.shape[-1:], norm.weight.to(states.dtype), epsilon)
    # On a CPU PyTorch's own takes more passes over the states, and 2.6 times as long.
    length = torch.linalg.vector_norm(states, dim=-1, keepdim=True)
    scale = length.square_().div_(states.shape[-1]).add_(epsilon).rsqrt_()
    return (states * scale).mul_(norm.weight)


def turned(states: Tensor, cos: Tensor, sin: Tensor, before: Tensor | None = None) -> Tensor:
    """Rotary positions: ``[rows, tokens, heads, width]`` in and out, after what comes before if anything does."""
    half = states.shape[-1] // 2
    if before is None:
        whole = made = states * cos
    else:
        whole = room_after(before, states)
        made = torch.mul(states, cos, out=whole[:, -states.shape[1] :])
    made[..., :half].addcmul_(states[..., half:], sin[..., :half], value=-1)
    made[..., half:].addcmul_(states[..., :half], sin[..., half:])
    return whole


def room_after(before: Tensor, states: Tensor) -> Tensor:
    """Float32 room for states ``[rows, tokens, ...]`` after what all rows begin with, ``[1, lead, ...]``."""
    lead = before.shape[1]
    rows, tokens, *rest = states.shape
    whole = torch.empty((rows, lead + tokens, *rest), dtype=torch.float32, device=states.device)
    whole[:, :lead] = before
    return whole
