"""A frozen causal language model as scoring sees it: its body, its head, and the log-probabilities of targets."""

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from collections.abc import Sequence as ListLike
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from qpeft_rerank.likelihood.body import Body
from qpeft_rerank.likelihood.compiling import refused
from qpeft_rerank.likelihood.exactly import exact_layers
from qpeft_rerank.likelihood.float32 import whole_products
from qpeft_rerank.likelihood.forked import outlive_forks
from qpeft_rerank.likelihood.head import log_probs
from qpeft_rerank.likelihood.linears import change_products, keeps_weights, products_of
from qpeft_rerank.likelihood.loan import Loan, is_lent
from qpeft_rerank.likelihood.mapped import looked_up
from qpeft_rerank.likelihood.packed import Tree
from qpeft_rerank.likelihood.sharing import Attention
from qpeft_rerank.likelihood.sources import ModelSource
from qpeft_rerank.prompt.pieces import Pieces
from qpeft_rerank.prompt.segments import Sequence


class Embedder(Protocol):
    """What an adapter does to a batch: replace embeddings, and perhaps put virtual tokens before each row."""

    def __call__(self, sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
        """Take ids ``[batch, tokens]`` and embeddings ``[batch, tokens, d]``; return the latter, hints filled in.

        Where more come back, ``[batch, virtual + tokens, d]``, the first ones are virtual tokens.
        """
        ...


@runtime_checkable
class ModelChanger(Protocol):
    """An embedder that also changes the model itself, for one forward pass at a time."""

    #: The faster way through the layers while they are changed, or None where there is none.
    body: Body | None

    def around(self, rows: int) -> AbstractContextManager[dict[str, Any]]:
        """Change the model inside the context, which gives further inputs for a batch of so many rows."""
        ...


def sent(made: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor's on a device: where that is a GPU, from pinned memory and without waiting."""
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


def padded(rows: ListLike[ListLike[int]], device: torch.device, value: int = 0) -> Tensor:
    """``[rows, longest row]``, filled up on the right."""
    longest = max(map(len, rows))
    return sent(torch.tensor([[*row, *([value] * (longest - len(row)))] for row in rows]), device)


def _eager() -> AbstractContextManager[Any]:
    """Compiled layers as they were: their weights change."""
    return torch.compiler.set_stance("force_eager")


class CausalModel(ABC):
    """What scorers and adapters ask of a language model, however it was loaded.

    :param source: where its files are.
    :param precision: how it computes, a key of :data:`~qpeft_rerank.likelihood.precision.STATES`.
    :param modules: its layers.
    :param pieces: its tokenizer.
    :param embedding: the layer of its input embeddings.
    :param vocabulary: how many tokens it tells apart.
    :param max_tokens: its context, in tokens.
    :param plain_head: whether logits are the output matrix times the body's states, and nothing more.
    :param attention: what planning must know of its layers.
    :param stock: compute as its layers do, in no faster way; but for logits, which are float32 in any case.
    """

    def __init__(
        self,
        source: ModelSource,
        precision: str,
        modules: Any,
        pieces: Pieces,
        embedding: Any,
        vocabulary: int,
        max_tokens: int,
        plain_head: bool,
        attention: Attention,
        stock: bool = False,
    ) -> None:
        outlive_forks()
        #: Held while a batch is read: an adapter in the layers, precision and what is kept of a prompt are the model's.
        self.lock = threading.RLock()
        self.source = source
        self.precision = precision
        self.modules = modules
        self.pieces = pieces
        self.embedding = embedding
        self.vocabulary = vocabulary
        self.max_tokens = max_tokens
        self.plain_head = plain_head
        self.attention = attention
        #: The faster way through the layers, or None where there is none.
        self.body: Body | None = None if stock else self.made_body()
        #: Whether its layers are compiled; see :func:`~qpeft_rerank.likelihood.compile_scorers.compile_scorers`.
        self.compiled = False
        #: Whether it is inside :meth:`exactly`.
        self.exact = False

    @property
    @abstractmethod
    def head(self) -> Any:
        """The output layer."""

    @abstractmethod
    def made_body(self) -> Body | None:
        """A faster way through the layers as they are now."""

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    def target_log_probs(self, sequences: ListLike[Sequence], embedder: Embedder | None = None) -> Tensor:
        """Log-probability of every target token of a batch.

        Rows are padded on the right: a causal model's states do not depend on what follows, so the
        padding needs no mask and changes nothing. The head is applied to scored positions only.

        :param sequences: the batch.
        :param embedder: fills the hint slots, or None where there are none.
        :return: float32 nats ``[scored]``, the rows' targets one after another. Carries gradients
            if the embedder's parameters do and gradients are on.
        """
        sides = self._sides(sequences, int(getattr(embedder, "virtual_tokens", 0)))
        if len(sides) == 1:
            return self._batch_log_probs(sequences, embedder)
        found: list[Tensor] = [torch.empty(0)] * len(sequences)
        for side in sides:
            some = [sequences[index] for index in side]
            flat = self._batch_log_probs(some, embedder)
            for index, part in zip(side, flat.split([len(sequence.target) for sequence in some]), strict=True):
                found[index] = part
        return torch.cat(found)

    def _sides(self, sequences: ListLike[Sequence], virtual: int) -> list[list[int]]:
        """Places of the sequences that a batch may hold together: see :attr:`Attention.boundary`."""
        boundary = self.attention.boundary
        sides: dict[bool, list[int]] = {}
        for index, sequence in enumerate(sequences):
            sides.setdefault(boundary is not None and len(sequence) + virtual > boundary, []).append(index)
        return list(sides.values())

    def takes_ids(self, embedder: Embedder) -> bool:
        """Whether a batch is read by its ids although there is an embedder: one that changes no embeddings of its own.

        Some models, such as Gemma 3n, read more of a token than its embedding. Asked inside :meth:`changed`; a
        :attr:`body` starts from embeddings anyway.
        """
        return self.body is None and bool(getattr(embedder, "keeps_tokens", False))

    def _batch_log_probs(self, sequences: ListLike[Sequence], embedder: Embedder | None) -> Tensor:
        rows = [sequence.ids for sequence in sequences]
        ids = padded(rows, self.device)
        # State t predicts token t + 1.
        where = [
            (row, place - 1)
            for row, (tokens, sequence) in enumerate(zip(rows, sequences, strict=True))
            for place in range(len(tokens) - len(sequence.target), len(tokens))
        ]
        at = sent(torch.tensor(where), self.device)
        targets = ids[at[:, 0], at[:, 1] + 1]
        with self.changed(embedder, len(rows)) as extra:
            inputs: dict[str, Any] = {"input_ids": ids, **extra}
            virtual = 0
            if embedder is not None and not self.takes_ids(embedder):
                vectors = embedder(sequences, ids, looked_up(self.embedding, ids))
                inputs = {"inputs_embeds": vectors, **extra}
                virtual = vectors.shape[1] - ids.shape[1]
                at[:, 1] += virtual
            lengths = [len(row) + virtual for row in rows]
            lead = virtual + min(sequence.prompt_length for sequence in sequences)
            return self._log_probs(inputs, at, targets, lengths, extra, lead)

    def _log_probs(
        self, inputs: dict[str, Any], at: Tensor, targets: Tensor, lengths: list[int], extra: Any, lead: int
    ) -> Tensor:
        """Float32 log-probability ``[scored]`` of each target after its place ``at`` in rows of ``lengths`` tokens."""
        return self.head_log_probs(self.scored_states(inputs, at, lengths, extra, lead), targets)

    def scored_states(
        self, inputs: dict[str, Any], at: Tensor, lengths: list[int], extra: Any, lead: int, tree: Tree | None = None
    ) -> Tensor:
        """States ``[scored, d]`` before the head; here through :attr:`body`.

        :param inputs: ``input_ids`` or ``inputs_embeds``, as for ``transformers``.
        :param at: row and place of each state that is wanted, ``[scored, 2]``.
        :param lengths: tokens of each sequence.
        :param extra: what :meth:`changed` gave.
        :param lead: tokens that all rows begin with.
        :param tree: who sees whom, where a row holds several sequences.
        """
        if self.body is None:
            raise ValueError("this model has no body of its own")
        vectors = inputs.get("inputs_embeds")
        if vectors is None:
            vectors = looked_up(self.embedding, inputs["input_ids"])
        return self.body(vectors, at, lead, None if tree else lengths, tree)

    @contextmanager
    def changed(self, embedder: Embedder | None, rows: int) -> Iterator[dict[str, Any]]:
        """The model as the embedder wants it, inside the context, which gives further inputs for so many rows.

        Other threads wait until it ends, but for those that :meth:`lent` is for.
        """
        turn = nullcontext() if is_lent(self) else self.lock
        with turn, whole_products(), refused(self.source.name) if self.compiled else nullcontext():
            if not isinstance(embedder, ModelChanger):
                yield {}
                return
            with embedder.around(rows) as extra:
                own = self.body
                self.body = embedder.body if own is not None else None
                try:
                    self.forget()
                    yield extra
                finally:
                    self.body = own
                    self.forget()

    def divisible(self, embedder: Embedder | None) -> bool:
        """Whether several threads may read batches at the same time: nothing that they all see changes meanwhile, such
        as the angles of positions, where they depend on a batch's length.

        On a GPU one batch is enough to be busy with.
        """
        plain = self.body is not None and not self.compiled and not isinstance(embedder, ModelChanger)
        return plain and self.attention.boundary is None and self.device.type == "cpu"

    @contextmanager
    def lent(self) -> Iterator[Loan]:
        """Inside the context, the model is that of the threads which :meth:`Loan.take` what it gives; others wait.

        They read with what :meth:`divisible` allows.
        """
        with self.lock, whole_products():
            yield Loan(self)

    @contextmanager
    def exactly(self) -> Iterator[None]:
        """Inside the context, its layers compute in float32 with the weights that they have, without :attr:`body`.

        For few tokens: a layer's weights are made float32 each time that it is read. Other threads wait.
        """
        with self.lock, exact_layers(self.modules), _eager() if self.compiled else nullcontext():
            own, self.body, self.exact = self.body, None, True
            try:
                yield
            finally:
                self.body, self.exact = own, False

    @property
    def can_be_exact(self) -> bool:
        """Whether :meth:`in_float32` is possible."""
        return self.precision == "mixed" and keeps_weights(self.modules)

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Inside the context, the model as if it had been loaded in float32, and no second one in memory.

        Other threads wait until it ends.
        """
        with self.lock:
            precision = self.precision
            self._multiply_as("float32")
            try:
                yield
            finally:
                self._multiply_as(precision)

    def _multiply_as(self, precision: str) -> None:
        self.precision = precision
        change_products(self.modules, products_of(precision))
        self.forget()

    def forget(self) -> None:
        """Drop what was computed with other layers."""
        if self.body is not None:
            self.body.forget()

    def head_log_probs(self, states: Tensor, targets: Tensor) -> Tensor:
        """Float32 log-probability ``[scored]`` of each target after its state ``[scored, d]``; see ``plain_head``."""
        return log_probs(states, targets, self.head, self.vocabulary)
