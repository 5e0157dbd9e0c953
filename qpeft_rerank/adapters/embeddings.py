"""The two embedding tables of Q-PEFT: the model's own E, frozen, and the trainable E' (method 4.1)."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from qpeft_rerank.likelihood.mapped import looked_up


class FrozenTable:
    """The model's embedding table E. Not a module: an adapter must neither own, move nor save it."""

    def __init__(self, embedding: nn.Embedding) -> None:
        self.embedding = embedding
        self.size, self.dimension = embedding.weight.shape

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    @torch.no_grad()
    def __call__(self, ids: Tensor) -> Tensor:
        """Float32 rows ``[..., d]`` of ids ``[...]``, scaled as the model scales them."""
        return looked_up(self.embedding, ids).float()


class HintTable(nn.Module):
    """E': a copy of E of which only the rows that training may touch are kept.

    Any other id falls back to E, so the table always stands for a whole copy.

    :param frozen: E.
    """

    row_ids: Tensor

    def __init__(self, frozen: FrozenTable) -> None:
        super().__init__()
        self.frozen = frozen
        self.rows = nn.Parameter(torch.empty(0, frozen.dimension))
        self.register_buffer("row_ids", torch.empty(0, dtype=torch.long))

    def set_rows(self, ids: Tensor, rows: Tensor) -> None:
        """Replace what is kept: ids ``[n]``, distinct, and float32 rows ``[n, d]``."""
        order = ids.argsort()
        place = self.rows.device
        self.rows = nn.Parameter(rows[order].to(place), requires_grad=self.rows.requires_grad)
        self.row_ids = ids[order].to(place)

    @torch.no_grad()
    def cover(self, ids: Iterable[int]) -> None:
        """Keep rows of these ids too, so that they can be trained.

        Makes a new parameter if there are new ones: call it before the optimizer is made.
        """
        fresh = sorted(set(ids) - set(self.row_ids.tolist()))
        if fresh:
            new = torch.tensor(fresh, device=self.rows.device)
            self.set_rows(torch.cat([self.row_ids, new]), torch.cat([self.rows.detach(), self.frozen(new)]))

    def forward(self, ids: Tensor) -> Tensor:
        """Float32 rows ``[..., d]`` of ids ``[...]``, with gradients to the kept rows."""
        rows = self.frozen(ids)
        if not len(self.row_ids):
            return rows
        at = torch.searchsorted(self.row_ids, ids.contiguous()).clamp_(max=len(self.row_ids) - 1)
        return torch.where((self.row_ids[at] == ids).unsqueeze(-1), self.rows[at], rows)

    @torch.no_grad()
    def changed(self) -> tuple[Tensor, Tensor]:
        """Ids ``[n]`` and rows ``[n, d]`` that differ from E: all that has to be saved."""
        differs = (self.rows != self.frozen(self.row_ids)).any(1)
        return self.row_ids[differs], self.rows.detach()[differs]
