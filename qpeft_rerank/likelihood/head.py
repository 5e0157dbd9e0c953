"""Log-probabilities of targets from a model's states, without the logits of all of them at once."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor, nn

from qpeft_rerank.likelihood.linears import SlicedLinear, in_rows, out_of_rows, slices

# Logits held at once, in numbers: 32 MB of float32. Twice as many cost a third more a logit on a CPU.
_CHUNK = 8 * 1024 * 1024
# The same where the vocabulary comes in parts, 8 MB: as many rows as a batch has tokens.
_PART_CHUNK = 2 * 1024 * 1024


def log_probs(states: Tensor, targets: Tensor, head: nn.Module, vocabulary: int) -> Tensor:
    """Float32 log-probability of each target, in nats ``[scored]``.

    Products with a narrower layer's weights are float32, too, unless gradients are wanted: the rounding of a logit
    would be the score's.

    :param states: before the head, ``[scored, d]``.
    :param targets: ids, ``[scored]``.
    :param head: the output layer.
    """
    if isinstance(head, SlicedLinear):
        pieces = _pieces(states, targets, _PART_CHUNK // head.parts[0].out_features)
        return torch.cat([_by_parts(some, in_rows(some, head.parts[0]), of, head.parts) for some, of in pieces])
    if type(head) is nn.Linear and head.weight.dtype != torch.float32 and not torch.is_grad_enabled():
        pieces = _pieces(states.float(), targets, _CHUNK // next(slices(head)).out_features)
        # Made float32 one after the other, for as many states as possible: all of a vocabulary is gigabytes.
        return torch.cat([_by_parts(some, some, of, (part.float() for part in slices(head))) for some, of in pieces])
    states = states.to(next(head.parameters(), states).dtype)
    return torch.cat([_at_once(*some, head) for some in _pieces(states, targets, _CHUNK // vocabulary)])


def _pieces(states: Tensor, targets: Tensor, rows: int) -> Iterator[tuple[Tensor, Tensor]]:
    rows = max(1, rows)
    return zip(states.split(rows), targets.split(rows), strict=True)


def _at_once(states: Tensor, targets: Tensor, head: nn.Module) -> Tensor:
    return -nn.functional.cross_entropy(head(states).float(), targets, reduction="none")


def _by_parts(states: Tensor, rows: Tensor, targets: Tensor, parts: Iterable[nn.Linear]) -> Tensor:
    """The same, also more exact: a sum over a vocabulary in one go is off by some 1e-5, the sum of such sums by less.

    :param rows: the states as the parts multiply them.
    """
    sums, of_target, first = [], torch.zeros_like(states[:, 0]), 0
    for part in parts:
        logits = out_of_rows(part(rows), states.shape[:1])
        sums.append(logits.logsumexp(-1))
        place = targets - first
        inside = (place >= 0) & (place < part.out_features)
        there = logits.gather(1, place.clamp(0, part.out_features - 1)[:, None])[:, 0]
        of_target = torch.where(inside, there, of_target)
        first += part.out_features
    return of_target - torch.stack(sums).logsumexp(0)
