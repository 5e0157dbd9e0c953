"""A batch's rows one after another, without the padding that a table of them needs.

Products, norms and the like take each token by itself, and attention takes a row at a time, so nothing but the work on
padding is lost: a tenth of all where a batch is one question's passages, or rows share passages.
"""

from collections.abc import Callable
from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Protocol

import torch
from torch import Tensor

#: Queries, keys and values of one layer, ``[rows, tokens, heads, width]``.
Attended = tuple[Tensor, Tensor, Tensor]
#: (row, its queries ``[1, heads, tokens, width]``, keys and values ``[1, key heads, tokens, width]``, scale) to
#: ``[1, heads, tokens, width]``.
RowAttend = Callable[[int, Tensor, Tensor, Tensor, float], Tensor]


class Tree(Protocol):
    """Rows in which several sequences go on from one beginning; see :class:`~qpeft_rerank.likelihood.tree.Layout`."""

    @property
    def positions(self) -> Tensor:
        """Of each token in its sequence, ``[rows, tokens]``."""
        ...

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row that are no padding."""
        ...

    def attend(self, dtype: torch.dtype) -> RowAttend:
        """Attention of a row, in which no sequence sees another."""
        ...

    def mask(self, dtype: torch.dtype) -> Tensor:
        """The same for all rows at once, to be added to attention's logits: ``[rows, 1, tokens, tokens]``."""
        ...


# What it costs to let a row attend by itself, in tokens: its share of them, and what a call costs.
_COPIES, _CALL = 0.02, 1


def row_by_row(device: torch.device) -> bool:
    """Whether rows may attend one at a time: on a GPU so many calls cost more than what they leave out."""
    return device.type == "cpu"


def saves(lengths: ListLike[int], width: int) -> bool:
    """Whether leaving out the padding of rows up to a width is worth attention row by row; measured on a CPU."""
    tokens = sum(lengths)
    return len(lengths) * width - tokens > _COPIES * tokens + _CALL * len(lengths)


def joined(before: ListLike[Tensor], own: ListLike[Tensor]) -> Attended:
    """What all rows begin with, ``[1, lead, heads, width]``, before what each has of its own."""
    queries, keys, values = (
        torch.cat((one.expand(len(other), -1, -1, -1), other), 1) for one, other in zip(before, own, strict=True)
    )
    return queries, keys, values


@dataclass(frozen=True, slots=True)
class Packed:
    """Where the tokens of a table ``[rows, tokens]`` are in a packed row.

    :param kept: their places in the table, row after row.
    :param spans: of each row, its first token's place in the packed row and the one after its last.
    :param ahead: tokens at the rows' beginnings that are left out: they were read before, once for all rows.
    """

    kept: Tensor
    spans: list[tuple[int, int]]
    ahead: int

    @classmethod
    def of(cls, lengths: ListLike[int], width: int, ahead: int, device: torch.device) -> "Packed":
        """Pack rows of so many tokens out of a table that is ``width`` tokens wide."""
        ends = accumulate((length - ahead for length in lengths), initial=0)
        inside = torch.arange(width) < torch.tensor(lengths)[:, None]
        inside[:, :ahead] = False
        return cls(inside.flatten().nonzero()[:, 0].to(device), list(pairwise(ends)), ahead)

    def row(self, table: Tensor) -> Tensor:
        """``[rows, tokens, ...]`` to ``[1, packed tokens, ...]``."""
        return table.flatten(0, 1)[self.kept][None]

    def places(self, scored: Tensor) -> Tensor:
        """(row, place) in the table, ``[scored, 2]``, to the same in the packed row."""
        starts = torch.tensor([start for start, _ in self.spans], device=scored.device)
        found = starts[scored[:, 0]] + scored[:, 1] - self.ahead
        return torch.stack((torch.zeros_like(found), found), 1)

    def seen(self, projected: Attended, before: Attended | None, scale: float, attend: RowAttend) -> Tensor:
        """What each token gathers from those of its row that it sees, ``[1, packed tokens, heads, width]``.

        :param projected: of the packed row.
        :param before: of what all rows begin with, ``[1, ahead, heads, width]``.
        """
        made = torch.empty_like(projected[0])
        for row, (start, end) in enumerate(self.spans):
            own: ListLike[Tensor] = [of[:, start:end] for of in projected]
            if before is not None:
                own = joined(before, own)
            queries, keys, values = (of.transpose(1, 2) for of in own)
            made[:, start:end] = attend(row, queries, keys, values, scale)[:, :, self.ahead :].transpose(1, 2)
        return made
