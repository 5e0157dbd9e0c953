"""Log-probabilities of targets from a model's states, without the logits of all of them at once."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from qpeft_rerank.likelihood.linears import SlicedLinear, in_rows, out_of_rows

# Logits held at once, in numbers: 32 MB of float32. Twice as many cost a third more a logit on a CPU.
_CHUNK = 8 * 1024 * 1024
# The same where the vocabulary comes in parts, 8 MB: as many rows as a batch has tokens.
_PART_CHUNK = 2 * 1024 * 1024


def log_probs(states: Tensor, targets: Tensor, head: nn.Module, vocabulary: int) -> Tensor:
    """Float32 log-probability of each target, in nats ``[scored]``.

    :param states: before the head, ``[scored, d]``.
    :param targets: ids, ``[scored]``.
    :param head: the output layer.
    """
    if isinstance(head, SlicedLinear):
        pieces = _pieces(states, targets, _PART_CHUNK // head.parts[0].out_features)
        return torch.cat([_by_parts(*some, head) for some in pieces])
    return torch.cat([_at_once(*some, head) for some in _pieces(states, targets, _CHUNK // vocabulary)])


def _pieces(states: Tensor, targets: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    rows = max(1, rows)
    return zip(states.split(rows), targets.split(rows), strict=True)


def _at_once(states: Tensor, targets: Tensor, head: nn.Module) -> Tensor:
    return -nn.functional.cross_entropy(head(states).float(), targets, reduction="none")


def _by_parts(states: Tensor, targets: Tensor, head: SlicedLinear) -> Tensor:
    """The same, also more exact: a sum over a vocabulary in one go is off by some 1e-5, the sum of such sums by less."""
    rows = in_rows(states, head.parts[0])
    sums, of_target, first = [], torch.zeros_like(states[:, 0]), 0
    for part in head.parts:
        logits = out_of_rows(part(rows), states.shape[:1])
        sums.append(logits.logsumexp(-1))
        place = targets - first
        inside = (place >= 0) & (place < part.out_features)
        there = logits.gather(1, place.clamp(0, part.out_features - 1)[:, None])[:, 0]
        of_target = torch.where(inside, there, of_target)
        first += part.out_features
    return of_target - torch.stack(sums).logsumexp(0)
