"""Compile a model, and ask it whether its scores are still its own."""

from itertools import cycle, islice

import torch
from torch import Tensor

from qpeft_rerank.errors import REFUSALS, InputError
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.likelihood.compiling import compile_layers, refusal
from qpeft_rerank.likelihood.precision import ROUNDING
from qpeft_rerank.prompt.segments import Segment, Sequence

# Tokens before the targets of the sequences that a model is asked by: batches that are laid out in all ways there are.
_BATCHES = ((9, 23, 14), (12, 12, 12), (17,))


def compile_model(model: CausalModel) -> None:
    """Compile a model's layers (:mod:`~qpeft_rerank.likelihood.compiling`), before an adapter is put into them.

    Scores then differ by rounding only, which a few tokens are read for.

    :raises InputError: if PyTorch cannot compile here, or what it makes computes something else.
    """
    with torch.inference_mode():
        expected = _log_probs(model)
        if model.body is None:
            compile_layers(model.modules)
        else:
            model.body.compile()
        model.compiled = True
        model.forget()
        try:
            found = _log_probs(model)
        # Compilers and drivers that are not there, and what they do not know, fail in as many ways.
        except (*REFUSALS, ImportError, OSError) as error:
            raise refusal(model.source.name, error) from None
    gap = float((found - expected).abs().max())
    if not gap <= ROUNDING.get(model.precision, ROUNDING["float32"]):
        raise InputError(
            f"--compile: {model.source.name} gives other scores compiled, by up to {gap:.2g} nats; leave it out"
        )


def _log_probs(model: CausalModel) -> Tensor:
    """Of tokens from all over the vocabulary, which all begin alike and go on differently."""
    tokens = list(range(5, model.vocabulary, max(1, model.vocabulary // 61)))
    read = []
    for lengths in _BATCHES:
        some = [tuple(islice(cycle(tokens), 3 + at, length + at)) for at, length in enumerate(lengths)]
        sequences = [
            Sequence((Segment("passage", (*tokens[:3], *own), (3, 3 + len(own))), Segment("target", own[:2])))
            for own in some
        ]
        read.append(model.target_log_probs(sequences))
    return torch.cat(read)
