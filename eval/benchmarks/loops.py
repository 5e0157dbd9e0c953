"""Other reranking tools' ways to score with a causal model, re-implemented after reading them.

Each takes the same token ids as our scorer, so that scores can be compared to the last digit and only
the computation differs. Rows stand in the run's order: none of these tools sorts by length.
"""

from collections.abc import Callable, Iterator
from collections.abc import Sequence as ListLike
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from qpeft_rerank.prompt.segments import Sequence

#: (transformers model, sequences, batch size, width to pad to) -> summed log-probability of each target, nats.
Loop = Callable[[Any, ListLike[Sequence], int, int], list[float]]


def llm_qlm(model: Any, sequences: ListLike[Sequence], batch: int, width: int) -> list[float]:
    """llm-qlm's causal loop: a batch padded on the right to its own longest, logits of all positions over the
    whole vocabulary, a shifted copy of them, cross-entropy of every token, and a mask over what is no query.
    """
    scores: list[float] = []
    for rows in _cut(sequences, batch):
        ids, seen = _padded(rows, max(map(len, rows)))
        logits = model(input_ids=ids, attention_mask=seen, use_cache=False).logits
        kept, labels = logits[:, :-1].contiguous(), ids[:, 1:].contiguous()
        losses = functional.cross_entropy(kept.view(-1, kept.shape[-1]).float(), labels.view(-1), reduction="none")
        losses = losses.view(labels.shape)
        scored = torch.zeros_like(losses)
        for row, sequence in enumerate(rows):
            scored[row, len(sequence) - len(sequence.target) - 1 : len(sequence) - 1] = 1
        scores += (-(losses * scored).sum(1)).tolist()
    return scores


def upr(model: Any, sequences: ListLike[Sequence], batch: int, width: int) -> list[float]:
    """UPR's loop for GPT models: every row padded to the longest of the whole run, log-softmax of all logits."""
    scores: list[float] = []
    for rows in _cut(sequences, batch):
        ids, seen = _padded(rows, width)
        logs = model(input_ids=ids, attention_mask=seen, use_cache=False).logits.float().log_softmax(-1)
        of_next = logs[:, :-1].gather(2, ids[:, 1:, None])[..., 0]
        for row, sequence in zip(of_next, rows, strict=True):
            scores.append(float(row[len(sequence) - len(sequence.target) - 1 : len(sequence) - 1].sum()))
    return scores


def one_by_one(model: Any, sequences: ListLike[Sequence], batch: int, width: int) -> list[float]:
    """What a first script does: one pair a forward pass, no padding, the model's logits as they come."""
    scores: list[float] = []
    for sequence in sequences:
        ids = torch.tensor([sequence.ids])
        count = len(sequence.target)
        logs = model(input_ids=ids, use_cache=False).logits[0, -count - 1 : -1].float().log_softmax(-1)
        scores.append(float(logs.gather(1, ids[0, -count:, None]).sum()))
    return scores


LOOPS: dict[str, Loop] = {"llm-qlm": llm_qlm, "upr": upr, "one-by-one": one_by_one}


def _cut(sequences: ListLike[Sequence], batch: int) -> Iterator[ListLike[Sequence]]:
    for start in range(0, len(sequences), batch):
        yield sequences[start : start + batch]


def _padded(rows: ListLike[Sequence], width: int) -> tuple[Tensor, Tensor]:
    """Ids and attention mask ``[rows, width]``, padded on the right."""
    ids = torch.zeros(len(rows), width, dtype=torch.long)
    seen = torch.zeros(len(rows), width, dtype=torch.long)
    for place, sequence in enumerate(rows):
        ids[place, : len(sequence)] = torch.tensor(sequence.ids)
        seen[place, : len(sequence)] = 1
    return ids, seen
