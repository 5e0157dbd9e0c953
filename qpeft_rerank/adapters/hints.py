"""What Q-PEFT-R and Q-PEFT-A share: E', g, and the hint block (method 4.1)."""

from abc import abstractmethod
from collections.abc import Iterable
from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

from qpeft_rerank.adapters.base import Adapter, Decay, SoftPrompt, prompt_start
from qpeft_rerank.adapters.config import AdapterConfig
from qpeft_rerank.adapters.embeddings import FrozenTable, HintTable
from qpeft_rerank.adapters.layout import Part, joined, part, write
from qpeft_rerank.adapters.mlp import HintMLP
from qpeft_rerank.adapters.tokens import TokenText, token_tables
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import Template
from qpeft_rerank.trec.lines import is_text


@dataclass(frozen=True, slots=True, kw_only=True)
class HintConfig(AdapterConfig):
    """Options of both.

    :param layers: L of g; 0 for no g.
    :param residual: add g's input to its output.
    :param last: how g's last layer starts where g's input is added: at ``zeros``, so that g adds nothing, or as
        PyTorch starts it (``default``).
    :param embeddings: E' keeps the ``rows`` that training may touch, the ``whole`` vocabulary (scores
        and training are the same, it costs memory), or is ``frozen``, the model's own.
    :param start: a text; each hint is added to one trainable vector that begins as the embedding of its
        last token, so untrained hints disturb the model little. Null: the slots hold the hints alone.
    :param gate: the weight with which hints are added to it; trained from there.
    :param selectable: tokens that hints are made from: those of the ``passage``, or the whole ``row``
        before the query, template included, as the authors' code has it (defect D12).
    :param token_text: how the filters s and a read a token: ``decoded``, or ``raw`` as the authors (D10, D11).
    :param soft_prompt: also train the prompt piece's vectors.
    :param decay: which weights decay.
    """

    layers: int = 1
    residual: bool = True
    last: Literal["zeros", "default"] = "zeros"
    embeddings: Literal["rows", "whole", "frozen"] = "rows"
    start: str | None = "\n"
    gate: float = 0.2
    selectable: Literal["passage", "row"] = "passage"
    token_text: TokenText = "decoded"
    soft_prompt: bool = False
    decay: Decay = "matrices"

    def check(self) -> None:
        """Raise :class:`InputError` for values that do not go together."""
        self._at_least(0, "layers")
        if self.start == "":
            raise InputError(f"adapter {self.name}: start is a text of at least one token, or null for none")
        if self.start is not None and not is_text(self.start):
            raise InputError(f"adapter {self.name}: start has half a surrogate pair; mend the escape")


#: The fields in which the authors' code differs, for R and A alike.
FAITHFUL = {
    "residual": False,
    "last": "default",
    "embeddings": "whole",
    "start": None,
    "selectable": "row",
    "token_text": "raw",
    "decay": "all",
}
Hints = TypeVar("Hints", bound=HintConfig)


class HintAdapter(Adapter[Hints]):
    """An adapter that fills the hint block: opener, hints and closer go through E' (or A) and then g."""

    def __init__(self, config: Hints, model: CausalModel, template: Template) -> None:
        super().__init__(config, model, template)
        self.frozen = FrozenTable(model.embedding)
        self.table = HintTable(self.frozen).to(model.device)
        self.mlp = HintMLP(self.frozen.dimension, config.layers, config.residual, config.last == "zeros")
        self.soft = SoftPrompt(prompt_start(config, self.fixed, self.frozen)) if config.soft_prompt else None
        self.start, self.gate = self._start(model)
        self.tables = token_tables(model.pieces.tokenizer, self.frozen.size, config.token_text)
        self._remarked: set[str] = set()
        self.table.rows.requires_grad_(config.embeddings != "frozen")
        self._cover_start()

    def _start(self, model: CausalModel) -> tuple[nn.Parameter | None, nn.Parameter | None]:
        if self.config.start is None:
            return None, None
        last = model.pieces.encode([self.config.start])[0][-1:]
        if not last:
            raise InputError(f"adapter {self.config.name}: start {self.config.start!r} is no token of this model's")
        vector = self.frozen(torch.tensor(last, device=self.frozen.device))[0]
        return nn.Parameter(vector.clone()), nn.Parameter(torch.tensor(float(self.config.gate)))

    def _cover_start(self) -> None:
        self.cover(range(self.tables.size) if self.config.embeddings == "whole" else self.fixed.frame)

    @abstractmethod
    def slots(self, sequences: ListLike[Sequence], ids: Tensor, width: int) -> Tensor:
        """Float32 vectors ``[batch, width, d]`` of the hint slots, before g; padding is ignored."""

    def remark(self, kind: str, what: str) -> None:
        """Tell once what is no fault but worth knowing of some passages."""
        if kind not in self._remarked:
            self._remarked.add(kind)
            say(f"{self.config.name}: {what} (told once)")

    def cover(self, ids: Iterable[int]) -> None:
        """Make room for training the hint embeddings of these ids; before the optimizer is made."""
        if self.config.embeddings != "frozen":
            self.table.cover(ids)

    def forward(self, sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
        """Fill hint block and prompt vectors: ``[batch, tokens, d]`` in and out."""
        if self.soft is not None:
            embedded = self.soft(sequences, ids, embedded)
        block = part(sequences, ids, "hints", "whole")
        body = part(sequences, ids, "hints")
        vectors = self.table(block.ids)
        width = body.mask.shape[1]
        if not width:
            return write(embedded, block, self.mlp(vectors))
        inside = Part(torch.where(body.mask, body.where - block.where[:, :1], 0), body.ids, body.mask)
        vectors = self.mlp(write(vectors, inside, self.slots(sequences, ids, width)))
        if self.start is not None:
            hints = vectors.gather(1, inside.where.unsqueeze(2).expand(-1, -1, vectors.shape[2]))
            vectors = write(vectors, inside, self.start + self.gate * hints)
        return write(embedded, block, vectors)

    def columns(self, sequences: ListLike[Sequence], ids: Tensor) -> Part:
        """The tokens that hints may be made from."""
        if self.config.selectable == "passage":
            return part(sequences, ids, "passage")
        return joined(part(sequences, ids, "passage", "whole"), part(sequences, ids, "question", "whole"))

    def weights(self) -> dict[str, Tensor]:
        """What is saved: of E' only the rows that differ from E."""
        row_ids, rows = self.table.changed()
        return super().weights() | {"table.row_ids": row_ids.cpu(), "table.rows": rows.cpu().contiguous()}

    def load_weights(self, weights: dict[str, Tensor], source: str) -> None:
        """Take saved tensors; a missing, unknown or misshapen one is a fault of ``source``."""
        row_ids, rows = weights.get("table.row_ids"), weights.get("table.rows")
        if row_ids is None or rows is None or rows.dim() != 2 or len(row_ids) != len(rows):
            raise InputError(f"{source}: damaged (no table of hint embeddings)")
        fits = rows.shape[1] == self.table.rows.shape[1] and len(row_ids.unique()) == len(row_ids)
        if not fits or (len(row_ids) and not 0 <= int(row_ids.min()) <= int(row_ids.max()) < self.tables.size):
            raise InputError(f"{source}: damaged (its hint embeddings do not fit the model's vocabulary)")
        self.table.set_rows(row_ids, rows.float())
        kept = {"table.row_ids": self.table.row_ids, "table.rows": self.table.rows.detach()}
        super().load_weights(weights | kept, source)
        self._cover_start()
