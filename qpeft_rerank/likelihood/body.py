"""A frozen decoder of Llama's kind, run as one function: the same layers, without what costs and gives nothing.

What is saved beside the model's own forward: states pass between layers in place, norms and activations are
part of other operations, each narrower copy of the states is made once, attention over several sequences of a
row leaves out the blocks in which nothing is seen, and the last layer ends with the scored positions.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from qpeft_rerank.likelihood.linears import PackedLinear

#: (queries ``[rows, heads, tokens, width]``, keys and values ``[rows, key heads, tokens, width]``, scale) to
#: ``[rows, heads, tokens, width]``.
Attend = Callable[[Tensor, Tensor, Tensor, float], Tensor]

# Largest difference of a state from the model's own, over the largest state there is. Products in bfloat16 are
# rounded in other places.
_TOLERANCE = {"float32": 1e-4, "mixed": 0.05}
# Sequence lengths on which a model is asked whether this is what it computes.
_PROBE_ROWS, _PROBE_TOKENS = 2, 19
_NORMS = ("input_layernorm", "post_attention_layernorm")
_ATTENTION = {"q_proj", "k_proj", "v_proj", "o_proj"}
_HEAD_NORMS = {"q_norm", "k_norm"}
_MLP = {"gate_proj", "up_proj", "down_proj", "act_fn"}


class Body:
    """The layers between embeddings and head. Made by :meth:`of`, which asks the model whether it is of this kind.

    :param decoder: what ``transformers`` calls the base model.
    """

    def __init__(self, decoder: Any) -> None:
        self.decoder = decoder
        self.layers = list(decoder.layers)
        self.width = int(self.layers[0].self_attn.head_dim)
        self.silu = all(_is_silu(layer.mlp.act_fn) for layer in self.layers)

    @classmethod
    def of(cls, decoder: Any, precision: str) -> "Body | None":
        """The body of a model with float32 states, or None if the model computes something else.

        Names of modules say how it might compute; a few random tokens, read both ways, say whether it does.
        """
        if precision not in _TOLERANCE or not _of_kind(decoder):
            return None
        device = decoder.embed_tokens.weight.device
        last = decoder.embed_tokens.num_embeddings - 1
        ids = torch.linspace(0, last, _PROBE_ROWS * _PROBE_TOKENS, device=device).long()
        ids = ids[torch.arange(len(ids), device=device) * 7 % len(ids)].view(_PROBE_ROWS, _PROBE_TOKENS)
        try:
            with torch.inference_mode():
                expected = decoder(input_ids=ids, use_cache=False).last_hidden_state
                body = cls(decoder)
                places = torch.arange(ids.numel(), device=device)
                rows, at = places // _PROBE_TOKENS, places % _PROBE_TOKENS
                found = body(decoder.embed_tokens(ids), torch.stack([rows, at], 1))
        # A module that takes or gives something else fails in as many ways as there are architectures.
        except (ValueError, TypeError, AttributeError, IndexError, RuntimeError):
            return None
        gap = (found - expected.reshape(found.shape)).abs().max() / expected.abs().max()
        return body if bool(gap <= _TOLERANCE[precision]) else None

    def __call__(
        self, vectors: Tensor, scored: Tensor, positions: Tensor | None = None, attend: Attend | None = None
    ) -> Tensor:
        """States after the last norm.

        :param vectors: embeddings ``[rows, tokens, d]``.
        :param scored: (row, place) of the states asked for, ``[scored, 2]``.
        :param positions: of each token, ``[rows, tokens]``; counted from 0 in each row by default.
        :param attend: attention; causal within each row by default.
        :return: ``[scored, d]``.
        """
        if positions is None:
            positions = torch.arange(vectors.shape[1], device=vectors.device)[None]
        cos, sin = (turn.float()[:, :, None] for turn in self.decoder.rotary_emb(vectors, positions))
        states = vectors.clone()
        for layer in self.layers:
            seen = self._attended(layer, states, cos, sin, attend or causal)
            if layer is self.layers[-1]:
                states, seen = (of[scored[:, 0], scored[:, 1]] for of in (states, seen))
            states += layer.self_attn.o_proj(seen)
            mlp = layer.mlp
            normed = _for(mlp.gate_proj, _normed(states, layer.post_attention_layernorm))
            states += mlp.down_proj(self._gated(mlp, normed))
        return _normed(states, self.decoder.norm)

    def _attended(self, layer: Any, states: Tensor, cos: Tensor, sin: Tensor, attend: Attend) -> Tensor:
        """What each token gathers from those that it sees, ``[rows, tokens, heads * width]``."""
        attention = layer.self_attn
        normed = _for(attention.q_proj, _normed(states, layer.input_layernorm))
        shape = (*states.shape[:2], -1, self.width)
        queries, keys, values = (
            getattr(attention, name)(normed).view(shape).to(states.dtype) for name in ("q_proj", "k_proj", "v_proj")
        )
        if hasattr(attention, "q_norm"):
            queries, keys = _normed(queries, attention.q_norm), _normed(keys, attention.k_norm)
        queries, keys = (_turned(of, cos, sin).transpose(1, 2) for of in (queries, keys))
        made = attend(queries, keys, values.transpose(1, 2), attention.scaling)
        return _for(attention.o_proj, made.transpose(1, 2).flatten(2))

    def _gated(self, mlp: Any, normed: Tensor) -> Tensor:
        """The activated gate times the rest, ``[..., inner width]``."""
        gate, up = mlp.gate_proj, mlp.up_proj
        if self.silu and isinstance(gate, PackedLinear) and isinstance(up, PackedLinear):
            return up.times(normed, gate.silu(normed))
        return mlp.act_fn(gate(normed)) * up(normed)


def causal(queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    """Each token sees itself and what comes before it in its row; an :data:`Attend`."""
    grouped = queries.shape[1] != keys.shape[1]
    return functional.scaled_dot_product_attention(
        queries, keys, values, is_causal=True, scale=scale, enable_gqa=grouped
    )


def _of_kind(decoder: Any) -> bool:
    """Whether a model has the modules that :class:`Body` uses, and no others."""
    if {name for name, _ in decoder.named_children()} != {"embed_tokens", "layers", "norm", "rotary_emb"}:
        return False
    for layer in decoder.layers:
        if {name for name, _ in layer.named_children()} != {"self_attn", "mlp", *_NORMS}:
            return False
        attention = {name for name, _ in layer.self_attn.named_children()}
        if attention not in (_ATTENTION, _ATTENTION | _HEAD_NORMS):
            return False
        if {name for name, _ in layer.mlp.named_children()} != _MLP:
            return False
    return len(decoder.layers) > 0


def _for(layer: nn.Module, states: Tensor) -> Tensor:
    """States in the dtype that a layer multiplies in, so that layers after the same states share one copy."""
    return states.to(layer.products) if isinstance(layer, PackedLinear) else states


def _normed(states: Tensor, norm: Any) -> Tensor:
    epsilon = getattr(norm, "variance_epsilon", None)
    if epsilon is None:
        epsilon = norm.eps
    return functional.rms_norm(states, norm.weight.shape, norm.weight, epsilon)


def _turned(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary positions: ``[rows, tokens, heads, width]`` in and out, angles ``[rows, tokens, 1, width]``."""
    half = states.shape[-1] // 2
    turned = states * cos
    turned[..., :half].addcmul_(states[..., half:], sin[..., :half], value=-1)
    turned[..., half:].addcmul_(states[..., :half], sin[..., half:])
    return turned


def _is_silu(activation: nn.Module) -> bool:
    some = torch.linspace(-8, 8, 97)
    return torch.equal(activation(some), functional.silu(some))
