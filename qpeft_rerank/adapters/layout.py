"""Where things lie in a batch, as tensors: the one bridge from segments to vectorised adapters."""

from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.prompt.builder import PromptBuilder
from qpeft_rerank.prompt.segments import Kind, Sequence
from qpeft_rerank.prompt.templates import Template


@dataclass(frozen=True, slots=True)
class Part:
    """The same part of every sequence in a batch, padded on the right.

    :param where: places in the sequence, ``[batch, width]``; 0 where ``mask`` is False.
    :param ids: token ids at those places, ``[batch, width]``.
    :param mask: True for real tokens, ``[batch, width]``.
    """

    where: Tensor
    ids: Tensor
    mask: Tensor


def part(sequences: ListLike[Sequence], ids: Tensor, kind: Kind, what: Literal["body", "whole"] = "body") -> Part:
    """One segment of each sequence, or its own text; empty where a sequence has none.

    :param ids: the batch's token ids, ``[batch, tokens]``.
    """
    spans = [(sequence.body_span(kind) if what == "body" else sequence.span(kind)) or (0, 0) for sequence in sequences]
    start, end = torch.tensor(spans, device=ids.device).unsqueeze(2).unbind(1)
    width = max(end - start for start, end in spans)
    places = torch.arange(width, device=ids.device)
    mask = places < end - start
    where = torch.where(mask, start + places, 0)
    return Part(where, ids.gather(1, where), mask)


def joined(*parts: Part) -> Part:
    """Parts side by side."""
    return Part(*(torch.cat([getattr(part, name) for part in parts], 1) for name in ("where", "ids", "mask")))


def write(embedded: Tensor, part: Part, vectors: Tensor) -> Tensor:
    """A copy of ``embedded`` with a part's vectors replaced.

    :param embedded: ``[batch, tokens, d]``.
    :param vectors: ``[batch, width, d]``, any float dtype.
    """
    rows = torch.arange(len(embedded), device=embedded.device).unsqueeze(1).expand_as(part.where)
    return embedded.index_put((rows[part.mask], part.where[part.mask]), vectors[part.mask].to(embedded.dtype))


@dataclass(frozen=True, slots=True)
class Fixed:
    """Token ids that a template puts into every sequence: the prompt piece, and the hint block's frame."""

    prompt: tuple[int, ...]
    frame: tuple[int, ...]


def fixed_ids(template: Template, model: CausalModel) -> Fixed:
    """Read them off a sequence without passage and hints."""
    builder = PromptBuilder(template, model.pieces, model.max_tokens)
    passage, query = builder.encode_passages([("", "")])[0], builder.encode_queries(["?"])[0]
    segments = {segment.kind: segment.ids for segment in builder.build(query, passage, 0).segments}
    return Fixed(segments.get("prompt", ()), segments["hints"])
