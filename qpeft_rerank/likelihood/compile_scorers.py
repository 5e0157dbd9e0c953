"""Compile the models of scorers, and ask each scorer whether its scores are still its own."""

from collections.abc import Sequence as ListLike

import torch
from torch import Tensor

from qpeft_rerank.errors import REFUSALS, InputError
from qpeft_rerank.likelihood.causal_model import ModelChanger
from qpeft_rerank.likelihood.compiling import compile_layers, refusal
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.out_of_memory import fitting
from qpeft_rerank.likelihood.precision import ROUNDING
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import PROBE


def compile_scorers(scorers: ListLike[Scorer]) -> None:
    """Compile the layers (:mod:`~qpeft_rerank.likelihood.compiling`) that scorers read, adapters in them included.

    Scores then differ by rounding only, which a few tokens are read for. What is read by other layers than most, such
    as sequences beyond an attention window, is read as before.

    :raises InputError: if PyTorch cannot compile here, if what it makes computes something else, and for adapters that
        give every layer keys of its own, since each layer would be compiled by itself.
    """
    if any(getattr(scorer.hinter, "own_keys", False) for scorer in scorers):
        raise InputError(
            "--compile: an adapter gives every layer keys of its own, so nothing can be shared; leave it out"
        )
    expected = [_log_probs(scorer) for scorer in scorers]
    for scorer, own in zip(scorers, expected, strict=True):
        model = scorer.model
        with fitting(f"--compile: finds no memory on {model.device} beside {model.source.name}; leave it out"):
            try:
                _compile(scorer)
                gap = float((_log_probs(scorer) - own).abs().max())
            # Compilers and drivers that are not there, and what they do not know, fail in as many ways.
            except (*REFUSALS, ImportError, OSError) as error:
                pass_on_faults(error)
                raise refusal(model.source.name, error) from None
        if not gap <= ROUNDING.get(model.precision, ROUNDING["float32"]):
            raise InputError(
                f"--compile: {model.source.name} gives other scores compiled, by up to {gap:.2g} nats; leave it out"
            )


def _compile(scorer: Scorer) -> None:
    model, hinter = scorer.model, scorer.hinter
    if not model.compiled:
        model.compiled = True
        model.forget()
        if model.body is None:
            compile_layers(model.modules, model.precision == "mixed")
        else:
            model.body.compile()
    tuned = hinter.body if isinstance(hinter, ModelChanger) else None
    if tuned is not None and tuned is not model.body:
        tuned.compile()


def _log_probs(scorer: Scorer) -> Tensor:
    """Of short texts, in batches of several lengths, of one, and of one text alone: they are laid out differently."""
    sequences = scorer.encode(PROBE)
    batches = (sequences, sequences[:1] * 3, sequences[:1])
    return torch.cat([log for batch in batches for log in scorer.log_probs(batch)])
