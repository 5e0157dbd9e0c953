"""A model of Llama's kind read from its files alone: without transformers, whose import takes longer than scoring.

Whether that is the same model is not for us to guess. It is asked once, of the model as ``transformers`` loaded
it: the same numbers in every matrix, angles of positions, tokens. What was found is noted in the cache, together with
what no file says; where there is no note, or another one, ``transformers`` loads the model.
"""

import hashlib
import json
from collections.abc import Sequence as ListLike
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from qpeft_rerank.cache import cache_dir, keep
from qpeft_rerank.likelihood.body import Body
from qpeft_rerank.likelihood.causal_model import CausalModel, Embedder
from qpeft_rerank.likelihood.heap import keep_heap_small
from qpeft_rerank.likelihood.language_model import LanguageModel, pick_device, pick_precision
from qpeft_rerank.likelihood.linears import products_of, replace_linears
from qpeft_rerank.likelihood.llama import Decoder, Shape, decoder_from, read_weights, same_decoder
from qpeft_rerank.likelihood.out_of_memory import attempt, fitting_model
from qpeft_rerank.likelihood.sharing import Attention
from qpeft_rerank.likelihood.sources import ModelSource, find_model
from qpeft_rerank.likelihood.tokenizer import PlainTokenizer, rules_of, same_tokens
from qpeft_rerank.prompt.pieces import Pieces
from qpeft_rerank.prompt.segments import Sequence

# Raised when notes made earlier no longer say what is needed.
_FORMAT = 1
_KEPT = "quick"
_PRECISIONS = ("float32", "mixed")
# Reading a larger model takes long enough that what is saved here would not be noticed, and comparing it much memory.
_LARGEST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Note:
    """What must be known of a model beside its weights.

    :param shape: what its decoder is made with.
    :param tied: whether the output matrix is that of the embeddings.
    :param special: ids that are no text.
    :param rules: the tokenizer's, as JSON.
    """

    model_type: str
    max_tokens: int
    shape: Shape
    tied: bool
    bos: int | None
    eos: int | None
    special: list[int]
    rules: str

    @property
    def tokenizer(self) -> PlainTokenizer:
        """Made of its rules."""
        return PlainTokenizer(self.rules, self.bos, self.eos, self.special)


class QuickModel(CausalModel):
    """A model for scoring: no gradients, none of PEFT's adapters, no ``transformers`` model."""

    def __init__(self, source: ModelSource, note: Note, precision: str, device: torch.device) -> None:
        keep_heap_small()
        weights = read_weights(source.folder, device)
        whole = nn.Module()
        whole.decoder, whole.head = decoder_from(weights, note.shape, note.tied)
        whole.eval().requires_grad_(False)
        replace_linears(whole, products_of(precision), whole.head)
        embedding: nn.Embedding = whole.decoder.embed_tokens
        super().__init__(
            source,
            precision,
            whole,
            Pieces(note.tokenizer, note.model_type, int(embedding.weight.shape[0])),
            embedding,
            int(whole.head.weight.shape[0]),
            note.max_tokens,
            True,
            Attention(int(embedding.weight.shape[1])),
        )

    @property
    def head(self) -> nn.Module:
        """The output layer."""
        return self.modules.head

    def made_body(self) -> Body | None:
        return Body(self.modules.decoder)

    @torch.no_grad()
    def target_log_probs(self, sequences: ListLike[Sequence], embedder: Embedder | None = None) -> Tensor:
        """See :meth:`CausalModel.target_log_probs`; carries no gradients."""
        return super().target_log_probs(sequences, embedder)


def load_for_scoring(name: str, dtype: str = "auto", device: str = "auto") -> CausalModel:
    """Load a model by name, the quick way if it is known to be the same; see :meth:`LanguageModel.load`."""
    source, place = find_model(name), pick_device(device)
    precision = pick_precision(dtype, place)
    if precision not in _PRECISIONS or not _small(source.folder):
        return LanguageModel.load(source, precision, device)
    path = cache_dir() / _KEPT / f"{_key(source)}.json"
    found = _read(path)
    if found:
        try:
            with fitting_model(source.name, precision, place):
                return QuickModel(source, found, precision, place)
        except (KeyError, ValueError):  # a note that was damaged: these weights and rules once went together
            found = None
    model = LanguageModel.load(source, precision, device)
    if found is None:
        # Weights are read a second time to compare them: where that finds no memory, the next job asks again.
        attempt(lambda: _keep_note(path, note_of(model)))
    return model


@torch.no_grad()
def note_of(model: LanguageModel) -> Note | None:
    """What :class:`QuickModel` needs to give this model's scores to the last bit; None where it would not."""
    if model.body is None or not all(layer.silu for layer in model.body.layers) or model.attention.reach is not None:
        return None
    decoder, tokenizer = model.body.decoder, model.pieces.tokenizer
    shape, rules = Shape.of(decoder), rules_of(tokenizer)
    if shape is None or rules is None:
        return None
    note = Note(
        model_type=model.pieces.model_type,
        max_tokens=model.max_tokens,
        shape=shape,
        tied=model.head.weight.data_ptr() == model.embedding.weight.data_ptr(),
        bos=tokenizer.bos_token_id,
        eos=tokenizer.eos_token_id,
        special=sorted(tokenizer.all_special_ids),
        rules=rules,
    )
    try:
        made: tuple[Decoder, nn.Linear] = decoder_from(
            read_weights(model.source.folder, model.device), shape, note.tied
        )
    # No such files, or other ones than such a model has.
    except (OSError, KeyError, ValueError):
        return None
    alike = same_decoder(made, (decoder, model.head)) and same_tokens(note.tokenizer, tokenizer)
    return note if alike else None


def _keep_note(path: Path, note: Note | None) -> None:
    keep(path, json.dumps(asdict(note) if note else {}))


def _small(folder: Path) -> bool:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) <= _LARGEST_BYTES


def _key(source: ModelSource) -> str:
    """Of the model, and of what would load it."""
    digest = hashlib.sha256(f"{_FORMAT} {source.identity} {source.tokenizer_identity}".encode("ascii"))
    for package in ("torch", "transformers", "tokenizers", "safetensors"):
        digest.update(f" {package} {version(package)}".encode("ascii"))
    return digest.hexdigest()[:32]


def _read(path: Path) -> Note | Literal[False] | None:
    """What was noted: False for a model that ``transformers`` has to load; None where there is no note, or no sound one."""
    try:
        record = json.loads(path.read_text("utf-8"))
        return Note(**record | {"shape": Shape(**record["shape"])}) if record else False
    except (OSError, ValueError, TypeError, KeyError):
        return None
