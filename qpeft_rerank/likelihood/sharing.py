"""Which candidates read their passage's tokens together, and which of them share a forward pass.

A *row* is one line of a batch. A row of several sequences holds the tokens that they all begin with
once, and then what is each one's own (:mod:`~qpeft_rerank.likelihood.tree`).
"""

import math
import re
from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from typing import Any

from qpeft_rerank.likelihood.batches import plan_batches
from qpeft_rerank.prompt.segments import Sequence, common_length

# What is saved must be worth a mask in every attention layer.
_WORTH = 0.05
# Most tokens of a shared row: its mask has the square of that many numbers.
_LONGEST = 2048
# Configurations name the reach of attention in these ways; longer sequences are not shared.
_REACH = re.compile(r"(window|window_size|chunk_size)$")


@dataclass(frozen=True, slots=True)
class Attention:
    """What the plan must know of a model.

    :param width: d of its states. A token's attention over n others costs what its matrices do at
        n = 6 d: 4 n d operations a layer against 2 x 12 d^2.
    :param reach: most tokens of a sequence that all its tokens see, or None for no such limit.
    :param boundary: tokens above which the model computes something else, for a whole batch if one sequence is
        longer; None where it does not. It is no farther than ``reach``.
    """

    width: int
    reach: int | None = None
    boundary: int | None = None

    @classmethod
    def of(cls, config: Any) -> "Attention":
        """Read a text model's configuration."""
        named = [value for name, value in config.to_dict().items() if _REACH.search(name)]
        limits = [value for value in named if type(value) is int and value > 0]  # use_sliding_window is no length
        boundary = _boundary(config)
        return cls(int(config.hidden_size), min([*limits, *([boundary] if boundary else [])], default=None), boundary)

    def cost(self, tokens: int) -> float:
        """Work of one row of so many tokens, in tokens without attention."""
        return tokens * (1 + tokens / (6 * self.width))

    def best_row(self, prefix: int) -> int:
        """Tokens of the row that costs least per token of suffix: where the derivative is zero of
        ``cost(n) / (n - prefix)``. Longer rows lose more to attention than they save of the prefix.
        """
        return min(_LONGEST, prefix + math.isqrt(prefix * prefix + 6 * self.width * prefix))


def _boundary(config: Any) -> int | None:
    """Tokens above which angles of positions, or queries, are scaled otherwise.

    LongRoPE (Phi-3, Phi-4-mini) has frequencies for short and for long sequences, and takes one of them for all of a
    batch; Ministral 3 scales queries beyond the context that it was first trained with.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    each = [rope, *(value for value in rope.values() if isinstance(value, dict))]
    if not any(of.get("rope_type") == "longrope" or of.get("llama_4_scaling_beta") for of in each):
        return None
    found = [of.get("original_max_position_embeddings") for of in each]
    found.append(getattr(config, "original_max_position_embeddings", None))
    return min((int(value) for value in found if value), default=1)


@dataclass(frozen=True, slots=True)
class Batch:
    """One forward pass.

    :param rows: indices of sequences, a list for each row.
    :param width: tokens of the longest row.
    """

    rows: list[list[int]]
    width: int

    @property
    def indices(self) -> list[int]:
        """All sequences of the batch, row after row."""
        return [index for row in self.rows for index in row]

    @property
    def tokens(self) -> int:
        """Tokens that pass through the model, padding included."""
        return len(self.rows) * self.width

    @property
    def shares(self) -> bool:
        """Whether any row holds several sequences."""
        return any(len(row) > 1 for row in self.rows)


def plan_plain(sequences: ListLike[Sequence], batch_tokens: int) -> list[Batch]:
    """A row for each sequence, under the budget of :func:`plan_batches`."""
    lengths = [len(sequence) for sequence in sequences]
    return [
        Batch([[index] for index in batch], lengths[batch[0]])  # the longest comes first
        for batch in plan_batches(lengths, batch_tokens)
    ]


def plan_shared(
    sequences: ListLike[Sequence], batch_tokens: int, attention: Attention, virtual: int = 0
) -> list[Batch]:
    """Rows of sequences with the same tokens through the passage, wherever that is less work.

    A row holds once whatever its sequences have in common: of one method's all that depends on no query.

    Depends on nothing but the arguments: a resumed run meets the same batches. Sequences that share
    with none are batched among themselves, so they need no mask.

    :param batch_tokens: most of ``rows x longest row`` in a batch; a longer sequence stands alone.
    :param virtual: tokens that an adapter puts before each row; they reach into the model's window.
    """
    alone: list[int] = []
    seen: list[int] = []
    for index, sequence in enumerate(sequences):
        within = attention.reach is None or len(sequence) + virtual <= attention.reach
        (seen if within and sequence.shared_length else alone).append(index)
    rows: list[list[int]] = []
    widths: list[int] = []
    for places in same_passage([sequences[index] for index in seen]):
        members = [seen[place] for place in places]
        prefix = common_length([sequences[index] for index in members])
        own = {index: len(sequences[index]) - prefix for index in members}
        room = min(batch_tokens, attention.best_row(prefix)) - prefix
        for row in _split(own, room) if prefix else [members]:
            common = common_length([sequences[index] for index in row])
            width = common + sum(len(sequences[index]) - common for index in row)
            apart = sum(attention.cost(len(sequences[index])) for index in row)
            if len(row) > 1 and prefix and attention.cost(width) < apart:
                rows.append(row)
                widths.append(width)
            else:
                alone.extend(row)
    shared = [Batch([rows[place] for place in batch], widths[batch[0]]) for batch in plan_batches(widths, batch_tokens)]
    alone.sort()
    plain = plan_plain([sequences[index] for index in alone], batch_tokens)
    return shared + [Batch([[alone[place]] for place in batch.indices], batch.width) for batch in plain]


def same_passage(sequences: ListLike[Sequence]) -> list[list[int]]:
    """Indices of sequences in groups whose tokens are the same through the passage."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, sequence in enumerate(sequences):
        groups.setdefault(tuple(sequence.ids[: sequence.passage_length]), []).append(index)
    return list(groups.values())


def _split(own: dict[int, int], room: int) -> list[list[int]]:
    """Sequences in their order, cut into rows of about equal size with at most ``room`` tokens of their own."""
    share = sum(own.values()) / max(1, math.ceil(sum(own.values()) / max(room, 1)))
    rows: list[list[int]] = []
    used = 0
    for index, tokens in own.items():
        if rows and used < share and used + tokens <= room:
            rows[-1].append(index)
            used += tokens
        else:
            rows.append([index])
            used = tokens
    return rows


def pays(shared: ListLike[Batch], plain: ListLike[Batch]) -> bool:
    """Whether a plan saves enough of another's tokens to be taken by itself."""
    return total_tokens(shared) <= (1 - _WORTH) * total_tokens(plain)


def total_tokens(plan: ListLike[Batch]) -> int:
    """Tokens of all batches, padding included."""
    return sum(batch.tokens for batch in plan)
