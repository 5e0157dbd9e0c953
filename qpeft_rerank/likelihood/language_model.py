"""A frozen causal language model: its body, its head, and the log-probabilities of targets."""

from collections.abc import Iterator
from collections.abc import Sequence as ListLike
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.likelihood.body import Attend, Body
from qpeft_rerank.likelihood.heap import keep_heap_small
from qpeft_rerank.likelihood.int8 import quantize_layers
from qpeft_rerank.likelihood.linears import change_products, keeps_weights, replace_linears
from qpeft_rerank.likelihood.precision import STATES
from qpeft_rerank.likelihood.processor import multiplies_bfloat16
from qpeft_rerank.likelihood.quiet import quiet_transformers
from qpeft_rerank.likelihood.sharing import Attention
from qpeft_rerank.likelihood.sources import ModelSource, find_model
from qpeft_rerank.prompt.pieces import Pieces
from qpeft_rerank.prompt.segments import Sequence

# Logits held at once, in numbers: 32 MB of float32. Twice as many cost a third more a logit on a CPU.
_HEAD_CHUNK = 8 * 1024 * 1024
#: The same as :data:`~qpeft_rerank.likelihood.precision.STATES`, as torch has them.
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, states) for name, states in STATES.items()}


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

    def around(self, rows: int) -> AbstractContextManager[dict[str, Any]]:
        """Change the model inside the context, which gives further inputs for a batch of so many rows."""
        ...


def pick_device(name: str) -> torch.device:
    """Resolve ``--device``. ``auto`` takes CUDA, then MPS, then the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise InputError(f"--device {name}: give auto, cpu, cuda, cuda:N or mps") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: this torch sees no CUDA device; take --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"--device {name}: this torch has no MPS device; take --device cpu")
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """Resolve ``--dtype`` to a key of :data:`DTYPES`. ``auto`` is bfloat16 on a GPU that has it, else float32."""
    if name != "auto":
        if name not in DTYPES:
            raise InputError(f"--dtype {name}: give auto, {', '.join(DTYPES)}")
        return name
    return "bfloat16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "float32"


def products_of(precision: str) -> torch.dtype:
    """In what dtype the linear layers of a model with float32 states multiply."""
    return torch.bfloat16 if precision == "mixed" else torch.float32


def sent(made: Tensor, device: torch.device) -> Tensor:
    """A tensor of the processor's on a device: where that is a GPU, from pinned memory and without waiting."""
    return made.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else made.to(device)


class LanguageModel:
    """A causal LM from ``transformers``, in eval mode and without gradients of its own.

    :param source: where its files are.
    :param model: the loaded ``AutoModelForCausalLM``.
    :param tokenizer: its tokenizer.
    :param precision: a key of :data:`DTYPES`; by default the model's dtype.
    :param stock: compute as ``transformers`` does, nothing else.
    """

    def __init__(
        self, source: ModelSource, model: Any, tokenizer: Any, precision: str | None = None, stock: bool = False
    ) -> None:
        keep_heap_small()
        self.source = source
        self.precision = precision or str(model.dtype).removeprefix("torch.")
        self.model = self.modules = model.eval().requires_grad_(False)
        if not stock and model.dtype == torch.float32:
            replace_linears(model, products_of(self.precision), self.head)
        self.config = model.config.get_text_config()
        self.pieces = Pieces(tokenizer, self.config.model_type)
        self.embedding = model.get_input_embeddings()
        self.vocabulary = int(self.config.vocab_size)
        #: The context, in tokens.
        self.max_tokens = int(getattr(self.config, "max_position_embeddings", None) or 2048)
        #: Whether logits are the output matrix times the body's states, and nothing more.
        self.plain_head = self._head_is_plain()
        #: What planning must know of its layers.
        self.attention = Attention.of(self.config)
        #: The faster way through the layers, or None where there is none.
        self.body = None if stock else self._made_body()

    @classmethod
    def load(
        cls, name: str | ModelSource, dtype: str = "auto", device: str = "auto", stock: bool = False
    ) -> "LanguageModel":
        """Load a model by name (see :func:`~qpeft_rerank.likelihood.sources.find_model`).

        :param stock: keep the layers that ``transformers`` made, as the yardstick of the faster ones.
        :raises InputError: if it cannot be found, read, or is no causal language model.
        """
        quiet_transformers()
        from transformers import AutoModelForCausalLM, AutoTokenizer

        source = name if isinstance(name, ModelSource) else find_model(name)
        place = pick_device(device)
        precision = pick_precision(dtype, place)
        try:
            tokenizer = AutoTokenizer.from_pretrained(source.folder)
            model: Any = AutoModelForCausalLM.from_pretrained(source.folder, dtype=DTYPES[precision])
        except Exception as error:  # a damaged folder fails in as many ways as it has files
            raise InputError(
                f"{source.folder}: cannot be loaded as a causal language model ({first_line(error)})"
            ) from None
        model = model.to(place)
        if precision == "int8":
            quantize_layers(model)
        return cls(source, model, tokenizer, precision, stock)

    @property
    def head(self) -> Any:
        """The output layer."""
        return self.model.get_output_embeddings()

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.embedding.weight.dtype

    @torch.no_grad()
    def _head_is_plain(self) -> bool:
        """Whether logits are nothing but the output matrix applied to the body's states.

        Some architectures scale or cap them; those go through the model's own forward. Asking the
        model itself is safer than a list of names.
        """
        head, body = self.model.get_output_embeddings(), self.model.base_model
        if head is None or body is self.model:
            return False
        ids = torch.tensor([[1, 2, 3]], device=self.device)
        whole = self.model(input_ids=ids, use_cache=False).logits
        return bool(torch.equal(whole, head(body(input_ids=ids, use_cache=False).last_hidden_state)))

    def target_log_probs(self, sequences: ListLike[Sequence], embedder: Embedder | None = None) -> Tensor:
        """Log-probability of every target token of a batch.

        Rows are padded on the right: a causal model's states do not depend on what follows, so the
        padding needs no mask and changes nothing. The head is applied to scored positions only.

        :param sequences: the batch.
        :param embedder: fills the hint slots, or None where there are none.
        :return: float32 nats ``[scored]``, the rows' targets one after another. Carries gradients
            if the embedder's parameters do and gradients are on.
        """
        rows = [sequence.ids for sequence in sequences]
        longest = max(map(len, rows))
        ids = sent(torch.tensor([row + [0] * (longest - len(row)) for row in rows]), self.device)
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
            if embedder is not None:
                vectors = embedder(sequences, ids, self.embedding(ids))
                inputs = {"inputs_embeds": vectors, **extra}
                at[:, 1] += vectors.shape[1] - longest
                longest = vectors.shape[1]
            if self.quick(longest, extra):
                lead = longest - ids.shape[1] + min(sequence.prompt_length for sequence in sequences)
                return self.head_log_probs(self.states(inputs, at, lead=lead), targets)
            if self.plain_head:
                states = self.model.base_model(**inputs, use_cache=False).last_hidden_state[at[:, 0], at[:, 1]]
                return self.head_log_probs(states, targets)
            first = int(at[:, 1].min())
            logits = self.model(**inputs, use_cache=False, logits_to_keep=longest - first).logits
            if logits.shape[1] == longest:  # an architecture without logits_to_keep returns all of them
                first = 0
            return _chosen(logits[at[:, 0], at[:, 1] - first], targets, torch.nn.Identity(), self.vocabulary)

    @contextmanager
    def changed(self, embedder: Embedder | None, rows: int) -> Iterator[dict[str, Any]]:
        """The model as the embedder wants it, inside the context, which gives further inputs for so many rows."""
        if not isinstance(embedder, ModelChanger):
            yield {}
            return
        with embedder.around(rows) as extra:
            self._forget()
            try:
                yield extra
            finally:
                self._forget()

    def _made_body(self) -> Body | None:
        return Body.of(self.model.base_model, self.precision) if self.plain_head else None

    @property
    def imitates(self) -> bool:
        """Whether the processor has no products of this precision, which then saves no time."""
        narrow = self.precision in ("mixed", "bfloat16", "int8")
        return narrow and self.device.type == "cpu" and not multiplies_bfloat16()

    @property
    def can_be_exact(self) -> bool:
        """Whether :meth:`in_float32` is possible."""
        return self.precision == "mixed" and keeps_weights(self.modules)

    @contextmanager
    def in_float32(self) -> Iterator[None]:
        """Inside the context, the model as if it had been loaded in float32, and no second one in memory."""
        before = self.precision
        self._change_precision("float32")
        try:
            yield
        finally:
            self._change_precision(before)

    def _change_precision(self, precision: str) -> None:
        self.precision = precision
        change_products(self.modules, products_of(precision), self.head)
        self.body = self._made_body()

    def _forget(self) -> None:
        """Drop what was computed with other layers."""
        if self.body is not None:
            self.body.forget()

    def quick(self, longest: int, extra: Any) -> bool:
        """Whether :attr:`body` may read a batch.

        :param longest: tokens of its longest sequence.
        :param extra: what :meth:`changed` gave.
        """
        # Gradients want what the layers compute kept, and an adapter's own keys a place in them.
        if self.body is None or extra or torch.is_grad_enabled():
            return False
        return self.attention.reach is None or longest <= self.attention.reach

    def states(
        self,
        inputs: dict[str, Any],
        scored: Tensor,
        positions: Tensor | None = None,
        attend: Attend | None = None,
        lead: int = 0,
    ) -> Tensor:
        """States ``[scored, d]`` before the head, through :attr:`body`; see :meth:`Body.__call__`.

        :param inputs: ``input_ids`` or ``inputs_embeds``, as for ``transformers``.
        """
        if self.body is None:
            raise ValueError("this model has no body of its own")
        vectors = inputs.get("inputs_embeds")
        if vectors is None:
            vectors = self.embedding(inputs["input_ids"])
        return self.body(vectors, scored, positions, attend, lead)

    def head_log_probs(self, states: Tensor, targets: Tensor) -> Tensor:
        """Float32 log-probability ``[scored]`` of each target after its state ``[scored, d]``; see ``plain_head``."""
        return _chosen(states, targets, self.head, self.vocabulary)


def _chosen(states: Tensor, targets: Tensor, head: torch.nn.Module, vocabulary: int) -> Tensor:
    """Float32 log-probability of each target ``[scored]``, the logits made a chunk at a time."""
    step = max(1, _HEAD_CHUNK // vocabulary)
    parts = [
        -torch.nn.functional.cross_entropy(
            head(states[start : start + step]).float(), targets[start : start + step], reduction="none"
        )
        for start in range(0, len(targets), step)
    ]
    return torch.cat(parts)
