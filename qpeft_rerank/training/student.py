"""What is trained: a frozen language model, and the few parameters that learn."""

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

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
        for name, part in self.parts.items():
            if part.parameter.dtype != torch.float32:
                raise TypeError(f"{name} is {part.parameter.dtype}; trainable parameters are kept in float32")

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

    The layers look at their train flag, so it is set on them alone: what they hold stays in eval
    mode, without dropout.
    """
    if not wanted:
        yield
        return
    with warnings.catch_warnings():
        # Renamed in transformers 5, where the old name still works.
        warnings.simplefilter("ignore", FutureWarning)
        model.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    layers = [module for module in model.model.modules() if hasattr(module, "gradient_checkpointing")]
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            model.model.gradient_checkpointing_disable()
