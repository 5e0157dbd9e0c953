"""Segments: a prompt as lists of token ids whose roles are known, so that none is ever searched for."""

from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from typing import Literal

Kind = Literal["bos", "prompt", "passage", "hints", "question", "target"]


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens of one role. ``body`` is the span, within ``ids``, of the passage's (or query's) own text.

    In a ``hints`` segment the body's ids are placeholders: an adapter replaces their embeddings.
    """

    kind: Kind
    ids: tuple[int, ...]
    body: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Sequence:
    """One candidate, ready to be scored: segments in order, the target last.

    All segments before the first one that depends on the query form the reusable prefix
    (:attr:`shared_length`): the same for every topic that has this passage.

    :param owner: which of several scorers made it; 0 where there is one.
    """

    segments: tuple[Segment, ...]
    truncated: bool = False
    owner: int = 0

    @property
    def ids(self) -> list[int]:
        """All token ids in order, ``[tokens]``."""
        return [token for segment in self.segments for token in segment.ids]

    def __len__(self) -> int:
        return sum(len(segment.ids) for segment in self.segments)

    @property
    def target(self) -> tuple[int, ...]:
        """The scored token ids, ``[scored]``; they are the last ones of :attr:`ids`."""
        return self.segments[-1].ids

    @property
    def shared_length(self) -> int:
        """Number of leading tokens that do not depend on the query."""
        length = 0
        for segment in self.segments:
            if segment.kind in ("hints", "target"):
                break
            length += len(segment.ids)
        return length

    @property
    def prompt_length(self) -> int:
        """Number of leading tokens that depend on neither the passage nor the query."""
        length = 0
        for segment in self.segments:
            if segment.kind == "passage":
                return length + segment.body[0]
            if segment.kind not in ("bos", "prompt"):
                break
            length += len(segment.ids)
        return length

    @property
    def passage_length(self) -> int:
        """:attr:`shared_length`, counted no further than through the passage."""
        span = self.span("passage")
        return min(self.shared_length, span[1]) if span else self.shared_length

    def span(self, kind: Kind) -> tuple[int, int] | None:
        """Where the segment of this kind lies in :attr:`ids`, or None."""
        start = 0
        for segment in self.segments:
            if segment.kind == kind:
                return start, start + len(segment.ids)
            start += len(segment.ids)
        return None

    def body_span(self, kind: Kind) -> tuple[int, int] | None:
        """Where the own text of the segment of this kind lies in :attr:`ids`, or None."""
        start = 0
        for segment in self.segments:
            if segment.kind == kind:
                return start + segment.body[0], start + segment.body[1]
            start += len(segment.ids)
        return None


def common_length(sequences: ListLike[Sequence]) -> int:
    """Number of leading tokens that are the same in all of these sequences and depend on no query."""
    shortest = min(sequence.shared_length for sequence in sequences)
    first, *others = (sequence.ids[:shortest] for sequence in sequences)
    for other in others:
        if other[: len(first)] != first:
            first = first[: next(at for at, (one, two) in enumerate(zip(first, other, strict=False)) if one != two)]
    return len(first)
