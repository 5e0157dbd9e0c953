"""Q-PEFT-A as a module: one multi-head attention layer between E' and g (method 4.3)."""

import math
from collections.abc import Iterable
from collections.abc import Sequence as ListLike

import torch
from torch import Tensor, nn

from qpeft_rerank.adapters.base import Trace
from qpeft_rerank.adapters.hints import HintAdapter
from qpeft_rerank.adapters.layout import part
from qpeft_rerank.adapters.qpeft_a.config import QPeftAConfig
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import Template


class QPeftA(HintAdapter[QPeftAConfig]):
    """One hint vector for each query token: E' of it attends to E of the passage's tokens."""

    dropped: Tensor

    def __init__(self, config: QPeftAConfig, model: CausalModel, template: Template) -> None:
        super().__init__(config, model, template)
        dimension = self.frozen.dimension
        if dimension % config.heads:
            raise InputError(f"adapter {config.name}: {config.heads} heads do not divide the model's {dimension}")
        self.attention = nn.MultiheadAttention(dimension, config.heads, dropout=config.dropout, batch_first=True)
        if config.init == "identity":
            self._start_from_identity()
        self.dropped_ids = self.tables.dropped(config.filters)
        self.register_buffer("dropped", self.tables.flags(self.dropped_ids), persistent=False)

    @torch.no_grad()
    def _start_from_identity(self) -> None:
        """Make the untrained layer a soft lookup of the nearest passage tokens.

        Each head sees its share of the dimensions. Query and key projections are the identity times one
        number, such that two equal embeddings of mean squared length meet with a logit of ``sharpness``.
        """
        dimension, heads = self.frozen.dimension, self.config.heads
        size = self.frozen.size
        sample = self.frozen(torch.arange(0, size, max(1, size // 4096), device=self.frozen.device))
        share = float(sample.square().sum(1).mean()) / heads
        scale = math.sqrt(self.config.sharpness * math.sqrt(dimension / heads) / max(share, 1e-12))
        identity = torch.eye(dimension)
        self.attention.in_proj_weight.copy_(torch.cat([scale * identity, scale * identity, identity]))
        self.attention.in_proj_bias.zero_()
        self.attention.out_proj.weight.copy_(identity)
        self.attention.out_proj.bias.zero_()

    def hint_tokens(self, query: ListLike[int], passage: ListLike[int]) -> int:
        """One hint slot for each query token."""
        if self.config.filters and passage:
            hidden = self.dropped_ids | (frozenset(query) if "q" in self.config.filters else frozenset[int]())
            if hidden.issuperset(passage):
                self.remark("all", f"filters {self.config.filters} hide all of a passage: it is shown whole")
        return len(query)

    def touched(self, sequences: Iterable[Sequence]) -> set[int]:
        """The ids of the queries."""
        ids: set[int] = set()
        for sequence in sequences:
            target = sequence.segments[-1]
            ids.update(target.ids[slice(*target.body)])
        return ids

    def slots(self, sequences: ListLike[Sequence], ids: Tensor, width: int) -> Tensor:
        """The attention's outputs, ``[batch, width, d]``."""
        return self._attend(sequences, ids, False)[0]

    def _attend(self, sequences: ListLike[Sequence], ids: Tensor, weights: bool) -> tuple[Tensor, Tensor | None]:
        query, keys = part(sequences, ids, "target"), self.columns(sequences, ids)
        hidden = ~keys.mask | self.dropped[keys.ids]
        if "q" in self.config.filters:
            taken = query.ids.masked_fill(~query.mask, -1)
            hidden |= (keys.ids.unsqueeze(2) == taken.unsqueeze(1)).any(2)
        hidden = torch.where(hidden.all(1, keepdim=True), ~keys.mask, hidden)
        # One more key, of zeros, for passages without tokens; no other row sees it.
        empty = hidden.all(1, keepdim=True)
        vectors = nn.functional.pad(self.frozen(keys.ids), (0, 0, 0, 1))
        unseen = torch.cat([hidden, ~empty], 1)[:, None, None]
        shape = (len(unseen), self.config.heads, query.ids.shape[1], unseen.shape[-1])
        # Not as its mask of keys: PyTorch imports sympy to check that, 0.4 s before the first score.
        unseen = unseen.expand(shape).flatten(0, 1)
        return self.attention(self.table(query.ids), vectors, vectors, attn_mask=unseen, need_weights=weights)

    @torch.no_grad()
    def explain(self, sequences: ListLike[Sequence], ids: Tensor) -> list[Trace]:
        """Each sequence's attention over the tokens of its passage, the mean of the heads."""
        weights = self._attend(sequences, ids, True)[1]
        assert weights is not None
        query, passage = part(sequences, ids, "target"), part(sequences, ids, "passage")
        # With the template selectable, the passage's own tokens start after its head.
        spans = [sequence.span("passage") or (0, 0) for sequence in sequences]
        first = torch.tensor([start for start, _ in spans], device=ids.device).unsqueeze(1)
        column = passage.where - (first if self.config.selectable == "row" else passage.where[:, :1])
        return [
            Trace(
                passage.ids[row][passage.mask[row]].tolist(),
                weights=weights[row][query.mask[row]][:, column[row][passage.mask[row]]].tolist(),
            )
            for row in range(len(sequences))
        ]
