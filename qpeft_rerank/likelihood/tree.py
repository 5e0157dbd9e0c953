"""One row of tokens for several sequences that begin alike: the beginning once, then each one's own rest.

Every rest sees the beginning and itself, and counts its positions on from the beginning's end, so a
token's state is what it would be in its own sequence. One forward pass does it: nothing is cached,
copied or kept, and rests need no padding to a common length.
"""

from collections.abc import Iterator
from collections.abc import Sequence as ListLike
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from qpeft_rerank.likelihood.causal_model import CausalModel, Embedder, padded, sent
from qpeft_rerank.likelihood.mapped import looked_up
from qpeft_rerank.likelihood.operations import causal
from qpeft_rerank.likelihood.packed import RowAttend
from qpeft_rerank.prompt.segments import Sequence, common_length

# Of a token that only pads its row.
_PADDING = -1
# Tokens of rests that attend together, each rest masked from the others: more would compute much that the mask
# hides, fewer would repeat the beginning's keys more often.
_GROUP = 64
# Most tokens, padding included, that an adapter is given at once.
_EMBEDDED = 32768


class NoSharedRowsError(Exception):
    """The model or the adapter allows no rows of several sequences; they are then read one by one."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything is in a batch of rows.

    :param ids: token ids ``[rows, tokens]``; 0 for virtual tokens and padding.
    :param positions: of each token in its own sequence, ``[rows, tokens]``.
    :param branches: 0 in the common beginning, then 1, 2, ... by sequence, ``[rows, tokens]``.
    :param states: (row, place) of the state that predicts each target token, ``[scored, 2]``.
    :param targets: ids of the target tokens, row after row, ``[scored]``.
    :param groups: of each row, ends of the common beginning and of groups of whole rests.
    """

    ids: Tensor
    positions: Tensor
    branches: Tensor
    states: Tensor
    targets: Tensor
    groups: list[list[int]]

    def mask(self, dtype: torch.dtype) -> Tensor:
        """What may see what, to be added to attention's logits: ``[rows, 1, tokens, tokens]``."""
        return _mask(self.branches, dtype)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row that are no padding."""
        return [ends[-1] for ends in self.groups]

    def attend(self, dtype: torch.dtype) -> RowAttend:
        """The same attention, row by row, without the blocks in which a mask would hide everything."""
        blocks: list[list[tuple[int, int, Tensor]]] = []
        for row, (prefix, *ends) in enumerate(self.groups):
            masks = []
            for start, end in pairwise([prefix, *ends]):
                own = _mask(self.branches[row : row + 1, start:end], dtype)
                masks.append((start, end, functional.pad(own, (prefix, 0))))
            blocks.append(masks)

        def attended(row: int, queries: Tensor, keys: Tensor, values: Tensor, scale: float) -> Tensor:
            prefix = self.groups[row][0]
            made = torch.empty_like(queries)
            made[:, :, :prefix] = causal(queries[:, :, :prefix], keys[:, :, :prefix], values[:, :, :prefix], scale)
            for start, end, mask in blocks[row]:
                made[:, :, start:end] = functional.scaled_dot_product_attention(
                    queries[:, :, start:end],
                    torch.cat((keys[:, :, :prefix], keys[:, :, start:end]), 2),
                    torch.cat((values[:, :, :prefix], values[:, :, start:end]), 2),
                    attn_mask=mask,
                    scale=scale,
                    enable_gqa=queries.shape[1] != keys.shape[1],
                )
            return made

        return attended


def _mask(branches: Tensor, dtype: torch.dtype) -> Tensor:
    """``[rows, 1, tokens, tokens]``, zero where a token comes before another of its branch or of branch 0."""
    order = torch.arange(branches.shape[1], device=branches.device)
    seen = (branches[:, :, None] == branches[:, None, :]) | (branches[:, None, :] == 0)
    seen &= order[:, None] >= order
    blocked = torch.zeros(seen.shape, dtype=dtype, device=branches.device)
    return blocked.masked_fill_(~seen, torch.finfo(dtype).min)[:, None]


def lay_out(rows: ListLike[ListLike[Sequence]], virtual: int, device: torch.device) -> Layout:
    """Arrange rows; what the sequences of each have in common (:func:`common_length`) is not nothing.

    :param virtual: tokens that an adapter puts before each row.
    """
    ids: list[list[int]] = []
    positions: list[list[int]] = []
    branches: list[list[int]] = []
    states: list[tuple[int, int]] = []
    targets: list[int] = []
    groups: list[list[int]] = []
    for number, row in enumerate(rows):
        shared = common_length(row)
        prefix = virtual + shared
        line = [0] * virtual + row[0].ids[:shared]
        ends = [prefix]
        place, branch = list(range(prefix)), [0] * prefix
        for which, sequence in enumerate(row, 1):
            rest = sequence.ids[shared:]
            first = len(rest) - len(sequence.target)
            # State t predicts token t + 1; the last of the beginning predicts the first of each rest.
            states += [(number, len(line) + at - 1 if at else prefix - 1) for at in range(first, len(rest))]
            targets += sequence.target
            line += rest
            if len(ends) > 1 and len(line) - ends[-2] <= _GROUP:
                ends.pop()
            ends.append(len(line))
            place += range(prefix, prefix + len(rest))
            branch += [which] * len(rest)
        groups.append(ends)
        ids.append(line)
        positions.append(place)
        branches.append(branch)
    return Layout(
        padded(ids, device),
        padded(positions, device),
        padded(branches, device, _PADDING),
        sent(torch.tensor(states), device),
        sent(torch.tensor(targets), device),
        groups,
    )


def tree_log_probs(
    model: CausalModel, rows: ListLike[ListLike[Sequence]], embedder: Embedder | None, virtual: int
) -> Tensor:
    """Log-probability of every target token of a batch of rows; see :meth:`CausalModel.target_log_probs`.

    :param virtual: tokens that the embedder puts before each sequence.
    :return: float32 nats ``[scored]``, row after row.
    :raises NoSharedRowsError: where the adapter or the model's head allows no such rows.
    """
    if not model.plain_head:
        raise NoSharedRowsError("the head is more than a matrix")
    layout = lay_out(rows, virtual, model.device)
    with model.changed(embedder, len(rows)) as extra:
        if extra:
            raise NoSharedRowsError("the adapter brings keys and values of its own")
        inputs = {"input_ids": layout.ids}
        if embedder is not None and not model.takes_ids(embedder):
            inputs = {"inputs_embeds": _embedded(model, rows, embedder, virtual)}
        lengths = [len(sequence) + virtual for row in rows for sequence in row]
        lead = virtual + min(sequence.prompt_length for row in rows for sequence in row)
        states = model.scored_states(inputs, layout.states, lengths, extra, lead, layout)
        return model.head_log_probs(states, layout.targets)


def begin_alike(model: CausalModel, row: ListLike[Sequence], embedder: Embedder, virtual: int) -> bool:
    """Whether an embedder gives all sequences of a row the same vectors in what they have in common."""
    with model.changed(embedder, len(row)):
        vectors = _whole(model, row, embedder, virtual)
    prefix = virtual + common_length(row)
    return all(torch.equal(other[:prefix], vectors[0, :prefix]) for other in vectors[1:])


def _embedded(model: CausalModel, rows: ListLike[ListLike[Sequence]], embedder: Embedder, virtual: int) -> Tensor:
    """Embeddings of the rows ``[rows, tokens, d]``: the adapter sees whole sequences, those of a few rows at a time."""
    lines = []
    for some in _together(rows, model.device):
        vectors = iter(_whole(model, [sequence for row in some for sequence in row], embedder, virtual))
        for row in some:
            prefix = virtual + common_length(row)
            first, *others = (next(vectors)[: virtual + len(sequence)] for sequence in row)
            lines.append(torch.cat([first, *(other[prefix:] for other in others)]))
    return torch.nn.utils.rnn.pad_sequence(lines, batch_first=True)


def _together(rows: ListLike[ListLike[Sequence]], device: torch.device) -> Iterator[list[ListLike[Sequence]]]:
    """Rows whose sequences an adapter is given at once: on a GPU each of its calls costs more than what it computes."""
    some: list[ListLike[Sequence]] = []
    count = longest = 0
    for row in rows:
        longest = max(longest, *map(len, row))
        if some and (device.type == "cpu" or (count + len(row)) * longest > _EMBEDDED):
            yield some
            some, count, longest = [], 0, max(map(len, row))
        some.append(row)
        count += len(row)
    yield some


def _whole(model: CausalModel, row: ListLike[Sequence], embedder: Embedder, virtual: int) -> Tensor:
    """Embeddings of a row's sequences, each whole: ``[sequences, virtual + tokens, d]``."""
    ids = padded([sequence.ids for sequence in row], model.device)
    vectors = embedder(row, ids, looked_up(model.embedding, ids))
    if vectors.shape[1] != virtual + ids.shape[1]:
        raise NoSharedRowsError("the adapter adds tokens of its own")
    return vectors
