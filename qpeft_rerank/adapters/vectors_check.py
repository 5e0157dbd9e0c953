"""Whether a model reads vectors in place of tokens, and tokens as ever beside them; two tokens tell."""

from collections.abc import Sequence as ListLike

import torch
from torch import Tensor

from qpeft_rerank.errors import REFUSALS, InputError
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.precision import ROUNDING
from qpeft_rerank.prompt.segments import Segment, Sequence

_TOKENS = [Sequence((Segment("passage", (5,)), Segment("target", (6,))))]


def refuse_vectors(model: CausalModel, name: str) -> None:
    """Raise :class:`InputError` for an adapter before the layers of a model that reads more of a token than its embedding.

    Gemma 3n and the small ones of Gemma 4 look tokens up once more for each layer: of vectors alone they compute
    something else, or nothing.

    :param name: of the adapter, for messages.
    """
    if model.body is not None:  # which starts from vectors
        return
    try:
        with torch.no_grad():
            model.target_log_probs(_TOKENS, _moved)
            gap = (model.target_log_probs(_TOKENS, _kept) - model.target_log_probs(_TOKENS)).abs().max()
        alike = bool(gap <= ROUNDING.get(model.precision, ROUNDING["float32"]))
    except REFUSALS as error:
        pass_on_faults(error)
        alike = False
    if not alike:
        raise InputError(
            f"adapter {name}: {model.source.name} reads more of a token than its embedding, so that vectors cannot take a "
            "token's place; take an adapter in its layers, such as lora"
        )


def _kept(sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
    return embedded


def _moved(sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
    """Vectors that are no token's."""
    return embedded + 1
