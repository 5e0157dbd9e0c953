"""What is trained: a frozen language model, and the few parameters that learn."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qpeft_rerank.adapters.base import TrainablePart
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Hinter, Scorer, encode_pairs
from qpeft_rerank.prompt.builder import PromptBuilder
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import Template
from qpeft_rerank.training.prefix_scorer import scorer_after_prefix
from qpeft_rerank.training.prefix_store import PrefixStore
from qpeft_rerank.training.sampler import Group


@dataclass(slots=True)
class Student:
    """A frozen model with its prompt, its adapter and the parameters to train.

    :param hinter: the adapter as the scorer sees it; None where the parameters are inside the model.
    :param parts: what learns, by name, in float32; names are those of the checkpoint.
    :param modules: modules whose train mode matters (dropout).
    """

    model: LanguageModel
    template: Template
    hinter: Hinter | None
    parts: dict[str, TrainablePart]
    modules: tuple[nn.Module, ...] = ()
    max_passage_tokens: int | None = None
    builder: PromptBuilder = field(init=False)

    def __post_init__(self) -> None:
        # Virtual tokens take room in the context, as they do in the scorer.
        room = self.model.max_tokens - getattr(self.hinter, "virtual_tokens", 0)
        self.builder = PromptBuilder(self.template, self.model.pieces, room, self.max_passage_tokens)

    @property
    def trained(self) -> int:
        """Number of parameters that learn."""
        return sum(part.parameter.numel() for part in self.parts.values())

    @property
    def no_checkpointing(self) -> str | None:
        """Why its gradients cannot be checkpointed; None where they can."""
        if getattr(self.hinter, "own_keys", False):
            # Layers drop the cache that they are given, as they are to be run twice.
            return "layers under it do not see the keys and values that this adapter gives them"
        known = getattr(self.model.model, "supports_gradient_checkpointing", False)
        return None if known else "transformers has none for this model"

    def encode(self, groups: list[Group]) -> list[list[Sequence]]:
        """The sequences of each group, the positive first; each distinct text is tokenised once."""
        pairs = [(group.query, passage.title, passage.text) for group in groups for passage in group.passages]
        flat = iter(encode_pairs(self.builder, pairs, self.hinter))
        return [[next(flat) for _ in group.passages] for group in groups]

    def scorer(self, store: PrefixStore | None = None) -> Scorer:
        """The scorer that ranks with the parameters as they are now, over the states in ``store`` if there is one."""
        return scorer_after_prefix(self.model, self.template, self.hinter, self.max_passage_tokens, store)

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """Train mode (dropout) within the block, eval mode after it."""
        for module in self.modules:
            module.train()
        try:
            yield
        finally:
            for module in self.modules:
                module.eval()

    def weights(self) -> dict[str, Tensor]:
        """A copy of the parameters, on the CPU."""
        return {name: part.parameter.detach().cpu().clone().contiguous() for name, part in self.parts.items()}

    def load_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Set the parameters to those of :meth:`weights`."""
        with torch.no_grad():
            for name, part in self.parts.items():
                part.parameter.copy_(weights[name])


@contextlib.contextmanager
def gradient_checkpointing(model: LanguageModel, wanted: bool) -> Iterator[None]:
    """Recompute activations in the backward pass within the block: less memory, a third more time.

    Layers look at their train flag, so it is set on them, but for the time that they compute: OPT's, among others, drop
    out by it. Set here and not by ``transformers``, which with every switch hangs a further hook on the embeddings.
    """
    layers = _innermost(model.model) if wanted else []
    for layer in layers:
        layer._gradient_checkpointing_func = partial(_read_twice, layer)
        layer.gradient_checkpointing = layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.gradient_checkpointing = layer.training = False


def _innermost(model: Any) -> list[Any]:
    """Modules that can be checkpointed, without those that only hold such."""
    found = [module for module in model.modules() if hasattr(module, "gradient_checkpointing")]
    known = set(map(id, found))
    return [one for one in found if len(known.intersection(map(id, one.modules()))) == 1]


def _read_twice(layer: Any, compute: Callable[..., Any], *given: Any) -> Any:
    """What a layer computes, in evaluation, now and again in the backward pass."""

    def still(*given: Any) -> Any:
        layer.training = False
        try:
            return compute(*given)
        finally:
            layer.training = True

    return checkpoint(still, *given, use_reentrant=False)
