"""Floating-point operations that scoring needs, by the model's shape."""

from collections.abc import Iterable
from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from qpeft_rerank.prompt.segments import Sequence


class Amount(NamedTuple):
    """What passes through a model.

    :param tokens: that are read.
    :param scored: whose probability is asked for.
    :param attended: (token, token that it sees) pairs.
    """

    tokens: int
    scored: int
    attended: int


@dataclass(frozen=True, slots=True)
class Work:
    """What one token costs a model without experts.

    :param linear: weights in the body's matrices.
    :param head: weights in the output matrix.
    :param attention: width of all queries of all layers, ``layers * heads * head width``.
    """

    linear: int
    head: int
    attention: int

    @classmethod
    def of(cls, model: Any) -> "Work":
        """Read a ``transformers`` causal model, which may be on the meta device."""
        config = model.config.get_text_config()
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return cls(
            sum(rows * columns for rows, columns in linear_shapes(model.base_model)),
            model.get_output_embeddings().weight.numel(),
            config.num_hidden_layers * config.num_attention_heads * width,
        )

    def operations(self, amount: Amount) -> int:
        """Multiplications and additions; norms, activations and rotations are left out."""
        products = self.linear * amount.tokens + self.head * amount.scored
        return 2 * products + 4 * self.attention * amount.attended


def linear_shapes(body: Any) -> list[tuple[int, int]]:
    """(outputs, inputs) of every matrix of a model's body."""
    from transformers.pytorch_utils import Conv1D

    shapes = []
    for module in body.modules():
        if isinstance(module, torch.nn.Linear):
            shapes.append((module.out_features, module.in_features))
        elif isinstance(module, Conv1D):  # GPT-2's, which is transposed
            shapes.append((module.weight.shape[1], module.weight.shape[0]))
    return shapes


def whole(sequences: Iterable[Sequence]) -> Amount:
    """Every sequence read by itself, without padding."""
    tokens = scored = attended = 0
    for sequence in sequences:
        length = len(sequence)
        tokens += length
        scored += len(sequence.target)
        attended += length * (length + 1) // 2
    return Amount(tokens, scored, attended)


def distinct(sequences: ListLike[Sequence]) -> Amount:
    """The same with each query-independent beginning read once."""
    tokens, scored, attended = whole(sequences)
    seen: set[tuple[int, ...]] = set()
    for sequence in sequences:
        length = sequence.shared_length
        beginning = tuple(sequence.ids[:length])
        if beginning in seen:
            tokens -= length
            attended -= length * (length + 1) // 2
        seen.add(beginning)
    return Amount(tokens, scored, attended)
