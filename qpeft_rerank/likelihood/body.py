"""A frozen decoder of Llama's kind, run as one function: the same layers, without what costs and gives nothing.

What is saved beside the model's own forward: states pass between layers in place, norms and activations are
part of other operations, each narrower copy of the states is made once, rows are not padded where that costs much,
attention over several sequences of a row leaves out the blocks in which nothing is seen, the last layer ends with the
scored positions, and tokens that all rows begin with are read once, not once a batch and row.

States, norms and rotary positions are float32 whatever the model's dtype: what a layer adds is then not rounded away.
"""

from collections.abc import Callable
from collections.abc import Sequence as ListLike
from typing import Any

import torch
from torch import Tensor

from qpeft_rerank.errors import REFUSALS
from qpeft_rerank.likelihood.compiling import compiled, leave_out_packed
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.exactly import exact_states
from qpeft_rerank.likelihood.float32 import whole_products
from qpeft_rerank.likelihood.layer import Layer
from qpeft_rerank.likelihood.loan import go_on
from qpeft_rerank.likelihood.operations import causal, masked, normed
from qpeft_rerank.likelihood.packed import Attended, Packed, Tree, joined, row_by_row, saves

# Largest difference of a state from the model's own, over the largest state there is.
_TOLERANCE = 1e-4
# Rows and tokens of the batch on which a model is asked whether this is what it computes.
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
        self.layers = [Layer.of(layer) for layer in decoder.layers]
        self.norm, self.rotary = decoder.norm, decoder.rotary_emb
        self._project: Callable[..., Attended] = Layer.projected
        self._finish: Callable[[Layer, Tensor, Tensor], None] = Layer.finish
        # The last lead read: its embeddings, and what attention needs of it in each layer.
        self._lead: tuple[Tensor, list[Attended], int] | None = None

    @classmethod
    def of(cls, decoder: Any) -> "Body | None":
        """The body of a model, or None if the model computes something else.

        Names of modules say how it might compute; a few random tokens, read both ways, say whether it does.
        """
        if not _of_kind(decoder):
            return None
        # A module that takes or gives something else fails in as many ways as there are architectures.
        try:
            body = cls(decoder)
            return body if body.agrees() else None
        except REFUSALS as error:
            pass_on_faults(error)
            return None

    @whole_products()
    @torch.inference_mode()
    def agrees(self) -> bool:
        """Whether the decoder gives the same states for a few random tokens.

        Asked in float32, whatever its dtype: the rounding of bfloat16 would hide that a model turns no positions in
        some of its layers, as SmolLM3 does. Weights become float32 a layer at a time, while it is read in both ways.
        """
        decoder = self.decoder
        device, last = next(decoder.parameters()).device, decoder.config.vocab_size - 1
        ids = torch.linspace(0, last, _PROBE_ROWS * _PROBE_TOKENS, device=device).long()
        ids = ids[torch.arange(len(ids), device=device) * 7 % len(ids)].view(_PROBE_ROWS, _PROBE_TOKENS)
        places = torch.arange(ids.numel(), device=device)
        rows, at = places // _PROBE_TOKENS, places % _PROBE_TOKENS
        vectors = decoder.embed_tokens(ids)
        states = vectors.to(torch.float32, copy=True)
        cos, sin = self._angles(states, at[:_PROBE_TOKENS][None])
        expected = exact_states(decoder, ids, lambda number: self._through(self.layers[number], states, cos, sin))
        gap = (normed(states, self.norm) - expected).abs().max() / expected.abs().max()
        # As it is used, which also asks whether its parts take each other's dtypes.
        used = self(vectors, torch.stack([rows, at], 1))
        return bool(gap <= _TOLERANCE) and bool(used.isfinite().all())

    def __call__(
        self,
        vectors: Tensor,
        scored: Tensor,
        lead: int = 0,
        lengths: ListLike[int] | None = None,
        tree: Tree | None = None,
    ) -> Tensor:
        """States after the last norm.

        :param vectors: embeddings ``[rows, tokens, d]``.
        :param scored: (row, place) of the states asked for, ``[scored, 2]``.
        :param lead: tokens that rows may all begin with, as they do with a prompt's first words. They see only
            themselves, so if they are alike they are read once, and kept for the next batch.
        :param lengths: tokens of each row that are no padding; all by default. A tree tells its own.
        :param tree: who sees whom where rows hold several sequences; else each is read from left to right.
        :return: float32 ``[scored, d]``.
        """
        rows, width = vectors.shape[:2]
        positions = torch.arange(width, device=vectors.device)[None] if tree is None else tree.positions
        read = self._read(vectors, min(lead, int(scored[:, 1].min())))
        ahead = read[0][0].shape[1] if read else 0
        packed = self._packed(vectors, lengths, tree, ahead)
        mask = None
        if packed:
            states, at = packed.row(vectors).float(), packed.places(scored)
            cos, sin = self._angles(states, packed.row(positions.expand(rows, width)))
            attend = tree.attend(self.dtype) if tree else _causal_row
        else:
            states = vectors[:, ahead:].to(torch.float32, copy=True)
            at = torch.stack((scored[:, 0], scored[:, 1] - ahead), 1)
            cos, sin = self._angles(states, positions[:, ahead:])
            mask = tree.mask(self.dtype) if tree else None
        for number, layer in enumerate(self.layers):
            go_on()
            before = read[number] if read else None
            if packed:
                projected = self._project(layer, states, cos, sin)
                seen = packed.seen(projected, before, layer.scale, attend)
            else:
                seen = self._seen(layer, self._project(layer, states, cos, sin, before), ahead, mask)
            if layer is self.layers[-1]:
                states, seen = (of[at[:, 0], at[:, 1]] for of in (states, seen))
            self._finish(layer, states, seen)
        return normed(states, self.norm)

    @property
    def dtype(self) -> torch.dtype:
        """Of what the layers multiply and attend with; see :attr:`Layer.dtype`."""
        return self.layers[0].dtype

    def _packed(self, vectors: Tensor, lengths: ListLike[int] | None, tree: Tree | None, ahead: int) -> Packed | None:
        """How rows are packed, or None where they are better read as a table."""
        rows, width = vectors.shape[:2]
        lengths = tree.lengths if tree else lengths or [width] * rows
        if row_by_row(vectors.device) and (tree or saves(lengths, width)):
            return Packed.of(lengths, width, ahead, vectors.device)
        return None

    def compile(self) -> None:
        """Compile what layers do before and after attention, which has kernels of its own."""
        leave_out_packed(self.decoder)
        project, finish = compiled(Layer.projected, 2), compiled(Layer.finish, 1)

        # Joined here: torch.compile fails at, or gets wrong, a product whose out= is a part of something.
        def projected(
            layer: Layer, states: Tensor, cos: Tensor, sin: Tensor, before: Attended | None = None
        ) -> Attended:
            own = project(layer, states, cos, sin)
            return own if before is None else joined(before, own)

        # In one shape whatever the batch, so that one piece of code serves.
        def finished(layer: Layer, states: Tensor, seen: Tensor) -> None:
            finish(layer, states.view(-1, states.shape[-1]), seen.flatten(0, -3))

        self._project, self._finish = projected, finished

    def forget(self) -> None:
        """Drop the lead that was kept: the layers change."""
        self._lead = None

    def _read(self, vectors: Tensor, lead: int) -> list[Attended]:
        """The lead's queries, keys and values in each layer, ``[1, lead, ...]``; nothing where rows begin differently.

        :param vectors: embeddings ``[rows, tokens, d]``.
        """
        first = vectors[:1, :lead]
        if lead <= 0 or not bool((vectors[:, :lead] == first).all()):
            return []
        known = self._lead  # another thread may put its own there meanwhile
        # As many threads round it in the same way, whoever read it first.
        count = torch.get_num_threads()
        if known is None or known[2] != count or not torch.equal(known[0], first):
            states = first.to(torch.float32, copy=True)
            cos, sin = self._angles(states, torch.arange(lead, device=vectors.device)[None])
            known = first.clone(), [self._through(layer, states, cos, sin) for layer in self.layers], count
            self._lead = known
        return known[1]

    def _through(self, layer: Layer, states: Tensor, cos: Tensor, sin: Tensor) -> Attended:
        """Take whole rows' states through a layer, in place; return what attention needed of them."""
        projected = self._project(layer, states, cos, sin)
        self._finish(layer, states, self._seen(layer, projected))
        return projected

    def _angles(self, states: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Cosines and sines of rotary positions, ``[rows, tokens, 1, width]``, in the states' dtype."""
        cos, sin = self.rotary(states, positions)
        return cos[:, :, None], sin[:, :, None]

    def _seen(self, layer: Layer, projected: Attended, ahead: int = 0, mask: Tensor | None = None) -> Tensor:
        """What each token after the first ``ahead`` gathers from those that it sees, ``[rows, tokens, heads, width]``.

        :param mask: of all tokens; by default each sees what comes before it.
        """
        queries, keys, values = (of.transpose(1, 2) for of in projected)
        made = (
            causal(queries, keys, values, layer.scale)
            if mask is None
            else masked(queries, keys, values, mask, layer.scale)
        )
        return made[:, :, ahead:].transpose(1, 2)


def _causal_row(row: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
    return causal(queries, keys, values, scale)


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
