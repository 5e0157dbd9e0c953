"""Neighbours of query tokens in the whole vocabulary: the authors' modes 1 and 2 (method 4.4)."""

import torch
from torch import Tensor

from qpeft_rerank.adapters.embeddings import HintTable
from qpeft_rerank.adapters.qpeft_r.selection import Similarity, best, similarity

# Rows of E' compared at once: 8192 of 4096 numbers are 256 MB in float64.
_CHUNK = 8192


def neighbours(
    table: HintTable,
    ids: Tensor,
    barred: Tensor,
    count: int,
    kind: Similarity,
    precision: torch.dtype,
    not_self: bool,
) -> tuple[Tensor, Tensor]:
    """For each of ``ids`` ``[u]`` the nearest tokens of the vocabulary, both sides by E'.

    :param barred: tokens that cannot be neighbours, ``[vocabulary]``.
    :param not_self: a token is not its own neighbour.
    :return: similarities and token ids, ``[u, count]``, the nearest first.
    """
    query = table(ids)
    everything = torch.arange(len(barred), device=ids.device)
    values = torch.cat(
        [similarity(query, table(some), kind, precision).float() for some in everything.split(_CHUNK)], 1
    )
    values = values.masked_fill(barred, -torch.inf)
    if not_self:
        values = values.scatter(1, ids.unsqueeze(1), -torch.inf)
    near = best(values, count)
    return values.gather(1, near), near
