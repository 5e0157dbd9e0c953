"""What every adapter is: a module that rewrites a batch's embeddings, and nothing of the model's own."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from typing import ClassVar, Generic, Literal, TypeVar

import torch
from torch import Tensor, nn

from qpeft_rerank.adapters.config import AdapterConfig
from qpeft_rerank.adapters.embeddings import FrozenTable
from qpeft_rerank.adapters.layout import Fixed, fixed_ids, part, write
from qpeft_rerank.adapters.mlp import HintMLP
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import Template

Config = TypeVar("Config", bound=AdapterConfig)
#: Which weights decay, if any: matrices (not E', prompt vectors and biases), or all, as the authors ask.
Decay = Literal["matrices", "all"]
Role = Literal["embedding", "matrix"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Where one sequence's hints come from, for ``--explain``.

    :param passage: ids of the passage tokens in the sequence, ``[m]``.
    :param hints: R: the hints' token ids, ``[slots]``.
    :param similarities: R: each hint's best similarity to a query token, ``[slots]``.
    :param weights: A: attention of each query token over the passage tokens, ``[n][m]``.
    """

    passage: list[int]
    hints: list[int] | None = None
    similarities: list[float] | None = None
    weights: list[list[float]] | None = None


@dataclass(frozen=True, slots=True)
class TrainablePart:
    """One parameter that trains.

    :param role: ``embedding`` for vectors that live among the model's embeddings (E', prompt vectors) or are added to
        such or weigh them (biases, the gate), ``matrix`` for everything else; it decides the learning rate.
    :param decay: whether weight decay applies.
    """

    parameter: nn.Parameter
    role: Role
    decay: bool


class SoftPrompt(nn.Module):
    """Trainable vectors in place of the template's ``prompt`` piece, starting from its embeddings (method 4.5).

    :param start: ``[vectors, d]``, float32.
    :param layers: of an MLP over the vectors; 0 for none.
    """

    def __init__(self, start: Tensor, layers: int = 0) -> None:
        super().__init__()
        self.vectors = nn.Parameter(start.clone())
        self.mlp = HintMLP(start.shape[1], layers, residual=False)

    def forward(self, sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
        """``[batch, tokens, d]`` in and out."""
        spans = [sequence.span("prompt") or (0, 0) for sequence in sequences]
        if any(end - start != len(self.vectors) for start, end in spans):
            raise InputError(
                f"the soft prompt has {len(self.vectors)} vectors, the prompt piece another number of tokens; "
                "use the prompt that the adapter was trained with"
            )
        place = part(sequences, ids, "prompt", "whole")
        return write(embedded, place, self.mlp(self.vectors).expand(len(embedded), -1, -1))


class Adapter(nn.Module, ABC, Generic[Config]):
    """Base of the adapters; satisfies :class:`~qpeft_rerank.likelihood.scorer.Hinter`.

    :param config: its configuration.
    :param model: the frozen language model; only its embeddings are read.
    :param template: the prompt.
    """

    #: Whether a passage's tokens decide what it :meth:`touched`, or how many hints there are.
    reads_passages: ClassVar[bool] = False

    def __init__(self, config: Config, model: CausalModel, template: Template) -> None:
        super().__init__()
        self.config = config
        self.fixed: Fixed = fixed_ids(template, model)

    @abstractmethod
    def hint_tokens(self, query: ListLike[int], passage: ListLike[int]) -> int | None:
        """Number of hint slots for these token ids; None for no hint block.

        Depends on ids and configuration only, never on weights: sequences stay valid while training.
        """

    def most_hints(self, query: ListLike[int]) -> int | None:
        """The most that :meth:`hint_tokens` gives with any passage: what it gives where passages do not matter."""
        return self.hint_tokens(query, ())

    @abstractmethod
    def forward(self, sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
        """Rewrite the embeddings of hint slots and prompt vectors.

        :param ids: ``[batch, tokens]``, padded on the right with 0.
        :param embedded: ``[batch, tokens, d]``, the model's own embeddings of ``ids``.
        :return: ``[batch, tokens, d]`` of the same dtype, with gradients to this module's parameters.
        """

    def cover(self, ids: Iterable[int]) -> None:
        """Make room for training the hint embeddings of these ids; before the optimizer is made."""

    def touched(self, sequences: Iterable[Sequence]) -> set[int]:
        """The ids to :meth:`cover` before training on these sequences."""
        return set()

    def explain(self, sequences: ListLike[Sequence], ids: Tensor) -> list[Trace]:
        """Where the hints of each sequence of a batch come from; empty for an adapter without hints."""
        return []

    def trainable_parts(self) -> dict[str, TrainablePart]:
        """The parameters that train, by name: empty for untrained hints."""
        everything = getattr(self.config, "decay", "matrices") == "all"
        parts = {}
        for name, parameter in self.named_parameters():
            vectors = name.endswith((".rows", ".vectors")) or parameter.dim() < 2
            if parameter.requires_grad:
                parts[name] = TrainablePart(parameter, "embedding" if vectors else "matrix", everything or not vectors)
        return parts

    def weights(self) -> dict[str, Tensor]:
        """What is saved: tensors by name, on the CPU."""
        return {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}

    def load_weights(self, weights: dict[str, Tensor], source: str) -> None:
        """Take saved tensors; a missing, unknown or misshapen one is a fault of ``source``."""
        expected = self.state_dict()
        for name in [*expected, *weights]:
            if name not in weights or name not in expected:
                raise InputError(f"{source}: damaged, or of another configuration ({name} is not in both)")
            if expected[name].shape != weights[name].shape:
                shapes = f"{list(weights[name].shape)}, not {list(expected[name].shape)}"
                raise InputError(f"{source}: damaged, or of another configuration ({name} has shape {shapes})")
        self.load_state_dict(weights)

    @property
    def identity(self) -> str:
        """Digest of configuration and weights: equal ones give equal scores."""
        digest = hashlib.sha256(json.dumps([self.config.name, self.config.to_dict()], sort_keys=True).encode())
        for name, tensor in sorted(self.weights().items()):
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:32]


def prompt_start(config: AdapterConfig, fixed: Fixed, frozen: FrozenTable) -> Tensor:
    """The embeddings ``[vectors, d]`` that a soft prompt starts from.

    :raises InputError: if the template has no prompt piece.
    """
    if not fixed.prompt:
        raise InputError(f"adapter {config.name}: a soft prompt needs a prompt piece in the template; use qpeft")
    return frozen(torch.tensor(fixed.prompt, device=frozen.device))
