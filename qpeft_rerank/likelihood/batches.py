"""Which candidates share a forward pass."""

from collections.abc import Sequence


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
