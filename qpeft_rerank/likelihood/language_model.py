"""A causal language model from ``transformers``: found, loaded, and asked what it computes."""

from typing import Any

import torch
from torch import Tensor

from qpeft_rerank.errors import REFUSALS, InputError, first_line
from qpeft_rerank.likelihood.body import Body
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.float32 import whole_products
from qpeft_rerank.likelihood.head import log_probs
from qpeft_rerank.likelihood.heap import keep_heap_small
from qpeft_rerank.likelihood.int8 import quantize_layers
from qpeft_rerank.likelihood.linears import products_of, replace_linears
from qpeft_rerank.likelihood.loading import read_model, read_tokenizer, refusal
from qpeft_rerank.likelihood.out_of_memory import fitting_model
from qpeft_rerank.likelihood.packed import Tree
from qpeft_rerank.likelihood.precision import STATES
from qpeft_rerank.likelihood.quiet import quiet_transformers
from qpeft_rerank.likelihood.sharing import Attention
from qpeft_rerank.likelihood.sources import ModelSource, find_model
from qpeft_rerank.prompt.pieces import Pieces

#: The same as :data:`~qpeft_rerank.likelihood.precision.STATES`, as torch has them.
DTYPES: dict[str, torch.dtype] = {name: getattr(torch, states) for name, states in STATES.items()}

# Most by which a logit may change with what follows, as a share of the largest; rounding depends on a batch's shape.
_FOLLOWED = {"float32": 1e-3}


def pick_device(name: str) -> torch.device:
    """Resolve ``--device``. ``auto`` takes CUDA, then MPS, then the CPU.

    :raises InputError: for a kind that is none of these, and for a device that is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        known = device.type in ("cpu", "cuda", "mps")
    except (RuntimeError, TypeError):
        known = False
    if not known:
        raise InputError(f"--device {name}: give auto, cpu, cuda, cuda:N or mps")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device {name}: this torch sees no CUDA device; take --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise InputError(f"--device {name}: this torch has no MPS device; take --device cpu")
    return device


def pick_precision(name: str, device: torch.device) -> str:
    """Resolve ``--dtype`` to a key of :data:`DTYPES`. ``auto`` is bfloat16 on a GPU that multiplies it itself, else
    float32.
    """
    if name != "auto":
        if name not in DTYPES:
            raise InputError(f"--dtype {name}: give auto, {', '.join(DTYPES)}")
        return name
    if device.type != "cuda":
        return "float32"
    with torch.cuda.device(device):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"


class LanguageModel(CausalModel):
    """A causal LM from ``transformers``, in eval mode and without gradients of its own.

    :param source: where its files are.
    :param model: the loaded ``AutoModelForCausalLM``.
    :param tokenizer: its tokenizer.
    :param precision: a key of :data:`DTYPES`; by default the model's dtype.
    :param stock: keep the layers that ``transformers`` made; logits of narrower models are float32 all the same.
    """

    def __init__(
        self, source: ModelSource, model: Any, tokenizer: Any, precision: str | None = None, stock: bool = False
    ) -> None:
        keep_heap_small()
        precision = precision or str(model.dtype).removeprefix("torch.")
        #: The model of ``transformers``.
        self.model = model.eval().requires_grad_(False)
        if not stock and model.dtype == torch.float32:
            replace_linears(model, products_of(precision), self.head)
        self._own_head = self.head
        self.config = model.config.get_text_config()
        embedding = model.get_input_embeddings()
        super().__init__(
            source,
            precision,
            model,
            Pieces(tokenizer, self.config.model_type, int(embedding.weight.shape[0])),
            embedding,
            int(self.config.vocab_size),
            context(self.config),
            _probe(model, source, precision),
            Attention.of(self.config),
            stock,
        )

    @classmethod
    def load(
        cls, name: str | ModelSource, dtype: str = "auto", device: str = "auto", stock: bool = False
    ) -> "LanguageModel":
        """Load a model by name (see :func:`~qpeft_rerank.likelihood.sources.find_model`).

        :param stock: keep the layers that ``transformers`` made, as the yardstick of the faster ones.
        :raises InputError: if it cannot be found, read, does not fit into memory, or is no causal language model.
        """
        quiet_transformers()
        source = name if isinstance(name, ModelSource) else find_model(name)
        place = pick_device(device)
        precision = pick_precision(dtype, place)
        try:
            tokenizer = read_tokenizer(source.folder)
            model = read_model(source.folder, DTYPES[precision])
        except Exception as error:  # a damaged folder fails in as many ways as it has files
            raise refusal(f"{source.folder}: cannot be loaded as a causal language model", error) from None
        with fitting_model(source.name, precision, place):
            model = model.to(place)
            if precision == "int8":
                quantize_layers(model)
            return cls(source, model, tokenizer, precision, stock)

    @property
    def head(self) -> Any:
        """The output layer; where PEFT put another around it and that is off, the model's own."""
        head = self.model.get_output_embeddings()
        return self._own_head if getattr(head, "disable_adapters", False) else head

    def made_body(self) -> Body | None:
        return Body.of(self.model.base_model) if self.plain_head else None

    def quick(self, longest: int, extra: Any) -> bool:
        """Whether :attr:`body` may read a batch.

        :param longest: tokens of its longest sequence.
        :param extra: what :meth:`changed` gave.
        """
        # Gradients want what the layers compute kept, and an adapter's own keys a place in them.
        if self.body is None or extra or torch.is_grad_enabled():
            return False
        return self.attention.reach is None or longest <= self.attention.reach

    def _log_probs(
        self, inputs: dict[str, Any], at: Tensor, targets: Tensor, lengths: list[int], extra: Any, lead: int
    ) -> Tensor:
        """The same, through the model itself where its head is more than a matrix."""
        if self.plain_head:
            return super()._log_probs(inputs, at, targets, lengths, extra, lead)
        longest = max(lengths)
        first = int(at[:, 1].min())
        logits: Tensor = self.model(**inputs, use_cache=False, logits_to_keep=longest - first).logits
        if logits.shape[1] == longest:  # an architecture without logits_to_keep returns all of them
            first = 0
        return log_probs(logits[at[:, 0], at[:, 1] - first], targets, torch.nn.Identity(), self.vocabulary)

    def scored_states(
        self, inputs: dict[str, Any], at: Tensor, lengths: list[int], extra: Any, lead: int, tree: Tree | None = None
    ) -> Tensor:
        """The same, through the model's own layers where :attr:`body` may not."""
        if self.quick(max(lengths), extra):
            return super().scored_states(inputs, at, lengths, extra, lead, tree)
        dtype = torch.float32 if self.exact else self.dtype
        places = {"attention_mask": tree.mask(dtype), "position_ids": tree.positions} if tree else {}
        states: Tensor = self.model.base_model(**inputs, **places, use_cache=False).last_hidden_state
        return states[at[:, 0], at[:, 1]]


def context(config: Any) -> int:
    """Tokens that a text model reads at most; 2,048 where its configuration does not say."""
    named = (getattr(config, name, None) for name in ("max_position_embeddings", "max_seq_len"))  # MPT's is the latter
    return next((int(value) for value in named if value), 2048)


@torch.no_grad()
@whole_products()
def _probe(model: Any, source: ModelSource, precision: str) -> bool:
    """Refuse a model whose scores would be none; tell whether its head is plain. A few tokens are read for it.

    Asking the model itself is safer than a list of names.

    :return: whether logits are nothing but the output matrix applied to the body's states. Some architectures
        scale or cap them, or compute the head in another dtype; those go through the model's own forward.
    """
    head, body = model.get_output_embeddings(), model.base_model
    ids = torch.tensor([[5, 6, 7, 0, 0]], device=model.get_input_embeddings().weight.device)
    some = ids[:, :3]
    try:
        logits = model(input_ids=some, use_cache=False).logits
        followed = model(input_ids=ids, use_cache=False).logits[:, : some.shape[1]]
    except REFUSALS as error:
        pass_on_faults(error)
        # Layers in another dtype than the rest, which the architecture multiplies by itself; other inputs than tokens.
        raise InputError(f"{source.name}: cannot be computed in {precision} ({first_line(error)})") from None
    if not logits.isfinite().all():
        other = "another --model" if precision == "float32" else "--dtype float32, or another --model"
        raise InputError(f"{source.name}: its logits in {precision} are not all finite numbers; try {other}")
    if not (logits - followed).abs().max() <= _FOLLOWED.get(precision, 0.05) * logits.abs().max():
        raise InputError(
            f"{source.name}: no causal language model, for a token's probability depends on what follows it; "
            "give another --model"
        )
    if head is None or body is model:
        return False
    try:
        return torch.equal(logits, head(body(input_ids=some, use_cache=False).last_hidden_state))
    except (RuntimeError, AttributeError) as error:
        pass_on_faults(error)
        return False
