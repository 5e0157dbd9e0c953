"""PEFT's own methods behind the same interface: LoRA and its kin, prompt tuning, P-tuning, prefix tuning."""

import contextlib
import hashlib
import json
import warnings
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as ListLike
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from qpeft_rerank.adapters.base import TrainablePart
from qpeft_rerank.adapters.peft_check import PeftCheck
from qpeft_rerank.adapters.peft_refusals import PREFIX, PROMPT, VIRTUAL, refuse_settings, refuse_unused, tuner_layers
from qpeft_rerank.adapters.vectors_check import refuse_vectors
from qpeft_rerank.adapters.virtual_check import refuse_virtual
from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.likelihood.body import Body
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.kv_cache import cache_argument
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.linears import PackedLinear, SlicedLinear
from qpeft_rerank.likelihood.seeds import seeded
from qpeft_rerank.prompt.segments import Sequence


class PeftAdapter(nn.Module):
    """A PEFT adapter on a :class:`LanguageModel`.

    LoRA and its kin are put into the model's layers, but switched on only around this adapter's own forward
    passes, so the model alone stays the base model; while training they stay on, because gradient
    checkpointing repeats parts of the forward pass later.

    :param tuned: a ``peft.PeftModel`` around ``model.model``.
    """

    def __init__(self, model: LanguageModel, tuned: Any) -> None:
        super().__init__()
        # In a tuple, out of nn.Module's sight: the base model is no part of the adapter.
        self._held = (model, tuned)
        config = tuned.active_peft_config
        self.kind = str(config.peft_type.value)
        self.in_layers = not config.is_prompt_learning
        #: Whether it gives every layer keys and values of its own.
        self.own_keys = self.kind == PREFIX
        #: Whether tokens are read as they are, by layers that are changed or see more keys.
        self.keeps_tokens = self.kind not in VIRTUAL
        self.virtual_tokens = 0 if self.in_layers else int(config.num_virtual_tokens)
        self._trained = {name: p for name, p in tuned.named_parameters() if p.requires_grad}
        #: The parameters that train, shared with the model's layers; none in a loaded prompt-learning adapter.
        self.shared = nn.ParameterList(self._trained.values())
        tuned.eval()
        self.eval()
        self._tuned_body: Body | None = None
        if self.in_layers and model.body is not None:
            with model.lock, self.around(1):
                self._tuned_body = model.made_body()

    @classmethod
    def create(cls, model: LanguageModel, config: Any, seed: int = 0) -> Self:
        """Put an untrained adapter on a model.

        :param config: a ``peft.PeftConfig``, such as ``LoraConfig(r=8)``.
        :param seed: decides random initial weights; the global generator is untouched.
        :raises InputError: if PEFT refuses it for this model.
        """
        from peft import PeftModelForCausalLM

        name = f"({config.peft_type.value})"
        refuse_settings(model, config, name)
        check = None if config.is_prompt_learning else PeftCheck(model)
        with seeded(seed), _quiet():
            try:
                tuned = PeftModelForCausalLM(model.model, config)
            except Exception as error:  # PEFT looks at few of its settings before it uses them
                pass_on_faults(error)
                raise InputError(f"peft cannot put {config.peft_type.value} on this model: {_why(error)}") from None
            return cls._checked(model, tuned, check, name)

    @classmethod
    def load(cls, model: LanguageModel, folder: Path, name: str) -> Self:
        """Load a folder that PEFT's ``save_pretrained`` wrote. Prompt-learning ones are for scoring only.

        :raises InputError: for a pickle, an unsupported method, weights that do not fit the model.
        """
        from peft import PeftConfig, PeftModelForCausalLM

        if not (folder / "adapter_model.safetensors").is_file():
            pickled = (folder / "adapter_model.bin").exists()
            only = "only has adapter_model.bin, a pickle; save it again as safetensors"
            raise InputError(f"adapter {name} {only if pickled else 'has no adapter_model.safetensors'}")
        try:
            config = PeftConfig.from_pretrained(str(folder))
            # What this PEFT, older than the one that wrote it, warns about and drops: to be refused, if it is to be.
            for field, value in json.loads((folder / "adapter_config.json").read_text("utf-8")).items():
                if not hasattr(config, field):
                    setattr(config, field, value)
            refuse_settings(model, config, name)
            check = None if config.is_prompt_learning else PeftCheck(model)
            with _quiet():
                # Weights that are not all there are only worth a warning to PEFT.
                warnings.filterwarnings("error", message="Found missing adapter keys")
                # Left to itself, PEFT reads weights into the first GPU that there is, whatever the model is on.
                how: dict[str, Any] = {"is_trainable": not config.is_prompt_learning, "torch_device": "cpu"}
                tuned = PeftModelForCausalLM.from_pretrained(model.model, str(folder), **how)
            refuse_unused(tuned, folder, name)
        except InputError:
            raise
        except Exception as error:  # PEFT and safetensors raise whatever comes; nothing of it is ours
            pass_on_faults(error)
            raise InputError(f"adapter {name} does not load on {model.source.name}: {_why(error)}") from None
        return cls._checked(model, tuned, check, name)

    @classmethod
    def _checked(cls, model: LanguageModel, tuned: Any, check: PeftCheck | None, name: str) -> Self:
        adapter = cls(model, tuned)
        if check is not None:
            check.refuse(adapter, tuned, name)
        if not adapter.keeps_tokens:
            refuse_vectors(model, name)
        if adapter.virtual_tokens:
            refuse_virtual(model, adapter, tuned.prompt_encoder, name)
        return adapter

    def train(self, mode: bool = True) -> Self:
        """Training mode keeps the adapter on; evaluation switches it on around each pass only."""
        super().train(mode)
        tuned = self._held[1]
        if self.in_layers:
            for layer in tuner_layers(tuned):
                # PEFT's dropout follows the mode; the base model's own stays off.
                layer.training = mode
                for name, child in layer.named_children():
                    if name != "base_layer":
                        child.train(mode)
            self._switch(mode)
        else:
            tuned.prompt_encoder.train(mode)
        return self

    def _switch(self, on: bool) -> None:
        if self.in_layers:
            tuner = self._held[1].base_model
            tuner.enable_adapter_layers() if on else tuner.disable_adapter_layers()
            for parameter in self._trained.values():  # which PEFT changes with the switch
                parameter.requires_grad_(True)

    def _prefix(self, rows: int) -> dict[str, Any]:
        model, tuned = self._held
        return cache_argument(model.model, tuned.get_prompt(rows))

    @property
    def body(self) -> Body | None:
        """The faster way through the model's layers while the adapter is on."""
        return self._tuned_body if self.in_layers else self._held[0].body

    @contextlib.contextmanager
    def around(self, rows: int) -> Iterator[dict[str, Any]]:
        """Switch the adapter on; gives the keys and values of prefix tuning, by the name of the model's argument."""
        if self.in_layers and not self.training:
            self._switch(True)
        try:
            yield self._prefix(rows) if self.own_keys else {}
        finally:
            if self.in_layers and not self.training:
                self._switch(False)

    def forward(self, sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
        """Put virtual tokens before each row: ``[batch, tokens, d]`` in, ``[batch, virtual + tokens, d]`` out."""
        model, tuned = self._held
        if self.kind in VIRTUAL:
            return torch.cat([tuned.get_prompt(len(ids)).to(embedded.dtype), embedded], 1)
        # An adapter may have replaced the embedding layer itself.
        return model.model.get_input_embeddings()(ids) if self.in_layers else embedded

    def hint_tokens(self, query: ListLike[int], passage: ListLike[int]) -> None:
        """No hint block."""
        return None

    def most_hints(self, query: ListLike[int]) -> None:
        """No hint block."""
        return None

    def cover(self, ids: Iterable[int]) -> None:
        """Nothing to cover: there are no hint embeddings."""

    def touched(self, sequences: Iterable[Sequence]) -> set[int]:
        """No ids."""
        return set()

    def trainable_parts(self) -> dict[str, TrainablePart]:
        """The parameters that train, by name. Virtual tokens, vectors and biases do not decay."""
        parts = {}
        for name, parameter in self._trained.items():
            # A prefix's numbers are keys and values, and P-tuning's those of a small network.
            vectors = parameter.dim() < 2 or self.kind == PROMPT
            decays = self.in_layers and not vectors
            parts[name] = TrainablePart(parameter, "embedding" if vectors else "matrix", decays)
        return parts

    def save(self, folder: Path, base: str) -> None:
        """Write PEFT's own files; ``base`` is what they call the base model, whose tokenizer they may name as well."""
        config = self._held[1].active_peft_config
        config.base_model_name_or_path = base
        if getattr(config, "tokenizer_name_or_path", None):  # of the words that a prompt started from
            config.tokenizer_name_or_path = base
        self._held[1].save_pretrained(str(folder), safe_serialization=True, save_embedding_layers=False)

    @property
    def identity(self) -> str:
        """Digest of configuration and weights."""
        from peft import get_peft_model_state_dict

        tuned = self._held[1]
        config = tuned.active_peft_config.to_dict()
        for key in ("base_model_name_or_path", "tokenizer_name_or_path", "inference_mode", "revision", "peft_version"):
            config.pop(key, None)
        digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=_plain).encode())
        for name, tensor in sorted(get_peft_model_state_dict(tuned, save_embedding_layers=False).items()):
            tensor = tensor.detach().cpu().contiguous()
            digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            digest.update(tensor.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:32]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without PEFT's warnings about names that transformers is going to change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        yield


def _why(error: BaseException) -> str:
    """What PEFT says, and what helps where a kind, as GLoRA, takes no layers but PyTorch's own."""
    ours = any(kind.__name__ in str(error) for kind in (PackedLinear, SlicedLinear))
    return first_line(error) + (" Take --dtype bfloat16, which leaves layers as they are" if ours else "")


def _plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)
