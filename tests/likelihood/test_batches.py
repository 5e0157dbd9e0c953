"""The plan: every sequence once, within the budget, nearly without padding."""

from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.likelihood.batches import plan_batches

LENGTHS = st.lists(st.integers(1, 500), max_size=300)


@given(LENGTHS, st.integers(1, 3000))
def test_every_sequence_is_in_one_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    plan = plan_batches(lengths, budget)
    assert sorted(index for batch in plan for index in batch) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget


@given(LENGTHS, st.integers(1, 3000))
def test_longest_first_and_never_longer_than_the_batch_before(lengths: list[int], budget: int) -> None:
    flat = [lengths[index] for batch in plan_batches(lengths, budget) for index in batch]
    assert flat == sorted(lengths, reverse=True)


def test_many_passages_of_usual_lengths_need_little_padding() -> None:
    lengths = [60 + (index * 7919) % 140 for index in range(4000)]
    plan = plan_batches(lengths, 2048)
    padded = sum(len(batch) * lengths[batch[0]] for batch in plan)
    assert padded / sum(lengths) < 1.03
