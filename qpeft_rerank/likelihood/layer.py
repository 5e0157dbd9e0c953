"""One layer of a decoder of Llama's kind: what it does before attention and after it, token by token."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qpeft_rerank.likelihood.linears import PackedLinear, in_rows, out_of_rows
from qpeft_rerank.likelihood.operations import normed, room_after, turned
from qpeft_rerank.likelihood.packed import Attended, joined


@dataclass(frozen=True, slots=True)
class Layer:
    """The modules of a layer as they are now: what is put in their places later is not part of this.

    :param scale: of attention's logits.
    :param width: of an attention head.
    :param silu: whether ``activation`` is that function.
    """

    norm: Any
    queries: Any
    keys: Any
    values: Any
    query_norm: Any
    key_norm: Any
    scale: float
    width: int
    own: Any
    later_norm: Any
    gate: Any
    up: Any
    down: Any
    activation: Any
    silu: bool

    @classmethod
    def of(cls, layer: Any) -> "Layer":
        """The modules of a layer of ``transformers``."""
        attention, mlp = layer.self_attn, layer.mlp
        return cls(
            layer.input_layernorm,
            attention.q_proj,
            attention.k_proj,
            attention.v_proj,
            getattr(attention, "q_norm", None),
            getattr(attention, "k_norm", None),
            attention.scaling,
            int(attention.head_dim),
            attention.o_proj,
            layer.post_attention_layernorm,
            mlp.gate_proj,
            mlp.up_proj,
            mlp.down_proj,
            mlp.act_fn,
            _is_silu(mlp.act_fn),
        )

    @property
    def dtype(self) -> torch.dtype:
        """What products and attention are computed in, but for layers with narrower products of their own."""
        found: torch.dtype = self.norm.weight.dtype
        return found

    def projected(self, states: Tensor, cos: Tensor, sin: Tensor, before: Attended | None = None) -> Attended:
        """What attention needs of each token, and of those before it if there are any.

        :param states: float32 ``[rows, tokens, d]``.
        :param cos: and ``sin``, of the positions: ``[rows, tokens, 1, width]``.
        """
        rows = in_rows(normed(states, self.norm).to(self.dtype), self.queries)
        shape = (*states.shape[:2], -1, self.width)
        queries, keys, values = (
            out_of_rows(linear(rows), shape[:2]).view(shape) for linear in (self.queries, self.keys, self.values)
        )
        queries, keys = queries.to(states.dtype), keys.to(states.dtype)
        if self.query_norm is not None:
            queries, keys = normed(queries, self.query_norm), normed(keys, self.key_norm)
        if self.dtype != states.dtype:
            queries, keys = (turned(of, cos, sin).to(self.dtype) for of in (queries, keys))
            own = queries, keys, values.to(self.dtype)
            return own if before is None else joined(before, own)
        first = before or (None, None, None)
        queries, keys = (turned(of, cos, sin, own) for of, own in ((queries, first[0]), (keys, first[1])))
        if first[2] is None:
            return queries, keys, values.to(states.dtype)
        whole = room_after(first[2], values)
        whole[:, -values.shape[1] :] = values
        return queries, keys, whole

    def finish(self, states: Tensor, seen: Tensor) -> None:
        """What a layer does after attention, to float32 ``states`` ``[..., d]`` in place.

        :param seen: what each token gathered from others, ``[..., heads, width]``.
        """
        shape = states.shape[:-1]
        states += out_of_rows(self.own(in_rows(seen, self.own)), shape)
        rows = in_rows(normed(states, self.later_norm).to(self.dtype), self.gate)
        states += out_of_rows(self.down(self._gated(rows)), shape)

    def _gated(self, rows: Tensor) -> Tensor:
        """The activated gate times the rest, ``[..., inner width]``."""
        gate, up = self.gate, self.up
        if self.silu and isinstance(gate, PackedLinear) and isinstance(up, PackedLinear):
            return up.times(rows, gate.silu(rows))
        return self.activation(gate(rows)) * up(rows)


def _is_silu(activation: nn.Module) -> bool:
    some = torch.linspace(-8, 8, 97)
    return torch.equal(activation(some), functional.silu(some))
