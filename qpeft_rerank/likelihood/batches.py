"""Which candidates share a forward pass."""

from collections.abc import Sequence

import torch

from qpeft_rerank.errors import check_count

# Tokens a forward pass: on a CPU, more would not stay in its caches; a GPU wants many.
BATCH_TOKENS = {"cpu": 1024, "cuda": 32768, "mps": 8192}


def plan_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Group sequences of similar length under a budget of tokens, padding included.

    :param lengths: tokens of each sequence, ``[sequences]``.
    :param batch_tokens: most of ``rows x longest row`` in a batch; a longer sequence stands alone.
    :return: indices into ``lengths``, longest first, so that memory runs out at once or never. The
        plan depends on nothing but the arguments: a resumed run meets the same batches.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    batches: list[list[int]] = []
    for index in order:
        current = batches[-1] if batches else []
        if current and (len(current) + 1) * lengths[current[0]] <= batch_tokens:
            current.append(index)
        else:
            batches.append([index])
    return batches


def cut_batches(lengths: Sequence[int], batch_tokens: int, overhead: int) -> list[list[int]]:
    """Group sequences where padding and passes together cost least, under a budget of tokens.

    :param lengths: tokens of each sequence, ``[sequences]``.
    :param batch_tokens: as :func:`plan_batches` takes it.
    :param overhead: tokens that could be read in the time that a pass costs whatever it reads.
    :return: as :func:`plan_batches` gives it.
    """
    order = sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))
    # For the first sequences of the order: the least cost, and where the last batch of that cut begins.
    best = [(0, 0)]
    for end in range(1, len(order) + 1):
        costs = []
        for start in range(end):
            padded = (end - start) * lengths[order[start]]
            if padded <= batch_tokens or end - start == 1:
                costs.append((best[start][0] + padded + overhead, start))
        best.append(min(costs))
    batches: list[list[int]] = []
    end = len(order)
    while end:
        start = best[end][1]
        batches.insert(0, order[start:end])
        end = start
    return batches


def batch_size(batch_tokens: int | None, device: torch.device) -> int:
    """Tokens in one forward pass: as asked, else what suits the device."""
    if batch_tokens is not None:
        check_count("--batch-tokens", batch_tokens)
    return batch_tokens or BATCH_TOKENS.get(device.type, BATCH_TOKENS["cpu"])
