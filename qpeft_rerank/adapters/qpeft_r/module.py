"""Q-PEFT-R as a module: score, choose, look up (method 4.2)."""

import hashlib
from collections.abc import Iterable
from collections.abc import Sequence as ListLike

import torch
from torch import Tensor

from qpeft_rerank.adapters.base import Trace
from qpeft_rerank.adapters.hints import HintAdapter
from qpeft_rerank.adapters.layout import Part, joined, part
from qpeft_rerank.adapters.qpeft_r.config import QPeftRConfig
from qpeft_rerank.adapters.qpeft_r.selection import Pool, Rules, choose, similarity
from qpeft_rerank.adapters.qpeft_r.vocabulary import neighbours
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.prompt.builder import HINT_SLOT
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import Template


class QPeftR(HintAdapter[QPeftRConfig]):
    """Hints are the passage's tokens nearest to the query's.

    How many there are follows from the token ids alone, so :meth:`hint_tokens` needs no embeddings. Which
    ones they are follows from E' of the query, which training changes, so they are chosen anew in every
    forward pass and nothing is cached. The choice carries no gradient (method 4.2). A passage cut after
    its slots were counted may have fewer tokens left than slots; those repeat in order.
    """

    reads_passages = True
    dropped: Tensor
    special: Tensor

    def __init__(self, config: QPeftRConfig, model: CausalModel, template: Template) -> None:
        super().__init__(config, model, template)
        self.dropped_ids = self.tables.dropped(config.filters)
        for name, ids in (("dropped", self.dropped_ids), ("special", self.tables.special)):
            self.register_buffer(name, self.tables.flags(ids), persistent=False)

    def hint_tokens(self, query: ListLike[int], passage: ListLike[int]) -> int:
        """Number of hint slots: k, or as many as there are tokens to choose from; 0 for an empty passage."""
        config = self.config
        taken = frozenset(query) if "q" in config.filters else frozenset[int]()
        if config.source == "expansion":
            return len(query) * min(config.k, self.tables.size - len(self.tables.special) - 1)
        if config.source == "vocabulary":
            return min(config.k, self.tables.size - len(self.dropped_ids | taken))
        if config.refill == "draw":
            return config.k
        times = 1 if config.source == "random" or "d" in config.filters else len(query)
        tokens: Iterable[int] = set(passage) if "d" in config.filters else passage
        barred = self.dropped_ids | taken
        # The same steps back as in `choose`: unfiltered but without special tokens, then everything.
        for fewer in (barred, self.tables.special, frozenset[int]()):
            if count := sum(token not in fewer for token in tokens):
                if times * count < config.k:
                    self.remark("few", f"a passage has {times * count} hints, not k {config.k}: it has no more tokens")
                return min(config.k, times * count)
            if passage and fewer is barred:
                self.remark("all", f"filters {config.filters} leave nothing of a passage: it gives hints unfiltered")
        return 0

    def most_hints(self, query: ListLike[int]) -> int:
        """k where the passage's tokens are chosen from, which may be any."""
        return self.config.k if self.config.source in ("passage", "random") else self.hint_tokens(query, ())

    def touched(self, sequences: Iterable[Sequence]) -> set[int]:
        """The ids that may become hints."""
        if self.config.source in ("vocabulary", "expansion"):
            return set(range(self.tables.size))
        ids: set[int] = set()
        for sequence in sequences:
            for segment in sequence.segments:
                if self.config.selectable == "row" and segment.kind in ("passage", "question", "target"):
                    ids.update(segment.ids)
                elif segment.kind == "passage":
                    ids.update(segment.ids[slice(*segment.body)])
        return ids

    def slots(self, sequences: ListLike[Sequence], ids: Tensor, width: int) -> Tensor:
        """E' of the chosen tokens, ``[batch, width, d]``."""
        return self.table(self.select(sequences, ids, width)[0])

    @torch.no_grad()
    def select(self, sequences: ListLike[Sequence], ids: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Token ids of the hints, and what ranked them: ``[batch, width]`` each, padding meaningless."""
        query = part(sequences, ids, "target")
        if self.config.source == "expansion":
            return self._expanded(query, width)
        pool = {"vocabulary": self._near, "random": self._random}.get(self.config.source, self._similar)(
            sequences, ids, query
        )
        config = self.config
        if not pool.values.shape[1]:
            nothing = ids[:, :1].expand(-1, width)
            return torch.full_like(nothing, HINT_SLOT), torch.zeros_like(nothing, dtype=torch.float32)
        draws = None
        if config.refill == "draw":
            draws = self._noise(sequences, [config.k] * len(sequences), "draw").to(ids.device)
        rules = Rules(
            distinct="d" in config.filters,
            not_in=query.ids.masked_fill(~query.mask, -1) if "q" in config.filters else None,
            dropped=self.dropped,
            special=self.special,
            limit=config.pool,
            draws=draws,
        )
        at, count = choose(pool, rules, width, config.k)
        empty = (count == 0).unsqueeze(1)
        return pool.ids.gather(1, at).masked_fill(empty, HINT_SLOT), pool.values.gather(1, at)

    @property
    def _precision(self) -> torch.dtype:
        return torch.bfloat16 if self.config.precision == "bfloat16" else torch.float32

    def _similar(self, sequences: ListLike[Sequence], ids: Tensor, query: Part) -> Pool:
        """Every pair of a query token and a passage token, query token by query token."""
        columns = self.columns(sequences, ids)
        shown = columns.mask
        if self.config.selectable == "row":
            # The authors multiply masked entries by 0 after a sigmoid and leave them in: with few tokens
            # the query itself gets into the hints (defect D13).
            target = part(sequences, ids, "target", "whole")
            shown = torch.cat([shown, torch.zeros_like(target.mask)], 1)
            columns = joined(columns, target)
        scores = similarity(self.table(query.ids), self.frozen(columns.ids), self.config.similarity, self._precision)
        if self.config.selectable == "row":
            scores = scores.sigmoid() * shown.unsqueeze(1)
        pairs = query.mask.unsqueeze(2) & columns.mask.unsqueeze(1)
        values = scores.float().masked_fill(~pairs, -torch.inf)
        return Pool(values.flatten(1), columns.ids.unsqueeze(1).expand_as(values).flatten(1))

    def _random(self, sequences: ListLike[Sequence], ids: Tensor, query: Part) -> Pool:
        """The passage's tokens in an order drawn from seed and texts; with the authors the query's too."""
        columns = self.columns(sequences, ids)
        if self.config.selectable == "row":
            columns = joined(columns, query)
        # Numbers belong to tokens, not to places in the padded batch.
        noise = self._noise(sequences, columns.mask.sum(1).tolist(), "order").to(ids.device)
        values = noise.gather(1, (columns.mask.cumsum(1) - 1).clamp_min(0)) if noise.shape[1] else columns.mask.float()
        return Pool(values.masked_fill(~columns.mask, -torch.inf), columns.ids)

    def _near(self, sequences: ListLike[Sequence], ids: Tensor, query: Part) -> Pool:
        """For each query token enough of its nearest tokens in the vocabulary to find the k best in."""
        fresh, back = query.ids.unique(return_inverse=True)
        count = self.config.k + (query.ids.shape[1] if "q" in self.config.filters else 0)
        values, near = neighbours(
            self.table, fresh, self.dropped, count, self.config.similarity, self._precision, not_self=False
        )
        found = values[back].masked_fill(~query.mask.unsqueeze(2), -torch.inf)
        return Pool(found.flatten(1), near[back].flatten(1))

    def _expanded(self, query: Part, width: int) -> tuple[Tensor, Tensor]:
        """Every query token's nearest token, then every one's second nearest, and so on."""
        fresh, back = query.ids.unique(return_inverse=True)
        values, near = neighbours(
            self.table,
            fresh,
            self.special,
            self.config.k,
            self.config.similarity,
            self._precision,
            not_self=True,
        )
        length = query.mask.sum(1, keepdim=True)
        slot = torch.arange(width, device=length.device)
        rank = (slot // length).clamp_max(near.shape[1] - 1)
        token = back.gather(1, slot % length)
        return near[token, rank], values[token, rank]

    def _noise(self, sequences: ListLike[Sequence], counts: ListLike[int], use: str) -> Tensor:
        """Numbers in [0, 1) that depend on the seed and a candidate's own tokens only.

        :param counts: how many each candidate gets; ``[batch, most]`` come back, 0 as padding.
        """
        rows = []
        for sequence, count in zip(sequences, counts, strict=True):
            ids = sequence.ids
            spans = (sequence.body_span("target") or (0, 0), sequence.body_span("passage") or (0, 0))
            texts = [ids[start:end] for start, end in spans]
            key = hashlib.blake2b(f"{use} {self.config.draw_seed} {texts}".encode(), digest_size=8).digest()
            generator = torch.Generator().manual_seed(int.from_bytes(key, "big", signed=True))
            rows.append(torch.rand(count, generator=generator))
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)

    @torch.no_grad()
    def explain(self, sequences: ListLike[Sequence], ids: Tensor) -> list[Trace]:
        """Each sequence's hint tokens and their similarities."""
        body, passage = part(sequences, ids, "hints"), part(sequences, ids, "passage")
        hints, values = self.select(sequences, ids, body.mask.shape[1])
        return [
            Trace(
                passage.ids[row][passage.mask[row]].tolist(),
                hints=hints[row][body.mask[row]].tolist(),
                similarities=values[row][body.mask[row]].tolist(),
            )
            for row in range(len(sequences))
        ]
