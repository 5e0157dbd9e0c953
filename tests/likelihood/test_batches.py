"""The plan: every sequence once, within the budget, nearly without padding."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from qpeft_rerank.likelihood.batches import cut_batches, plan_batches

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


@given(LENGTHS, st.integers(1, 3000), st.integers(0, 100))
@settings(max_examples=30)
def test_a_cut_keeps_to_the_budget_and_costs_no_more(lengths: list[int], budget: int, overhead: int) -> None:
    def cost(batches: list[list[int]]) -> int:
        return sum(len(batch) * lengths[batch[0]] + overhead for batch in batches)

    cut, plan = cut_batches(lengths, budget, overhead), plan_batches(lengths, budget)
    flat = [lengths[index] for batch in cut for index in batch]
    assert flat == sorted(lengths, reverse=True)
    assert sorted(index for batch in cut for index in batch) == list(range(len(lengths)))
    assert all(len(batch) == 1 or len(batch) * lengths[batch[0]] <= budget for batch in cut)
    assert cost(cut) <= cost(plan)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7), st.integers(1, 200), st.integers(0, 60))
def test_no_cut_costs_less(lengths: list[int], budget: int, overhead: int) -> None:
    ordered = sorted(lengths, reverse=True)
    costs = []
    for marks in itertools.product((False, True), repeat=len(ordered) - 1):
        ends = [place for place, mark in enumerate(marks, 1) if mark] + [len(ordered)]
        parts = [ordered[start:end] for start, end in zip([0, *ends], ends, strict=False)]
        if all(len(part) == 1 or len(part) * part[0] <= budget for part in parts):
            costs.append(sum(len(part) * part[0] + overhead for part in parts))
    found = cut_batches(lengths, budget, overhead)
    assert sum(len(batch) * lengths[batch[0]] + overhead for batch in found) == min(costs)


def test_many_passages_of_usual_lengths_need_little_padding() -> None:
    lengths = [60 + (index * 7919) % 140 for index in range(4000)]
    plan = plan_batches(lengths, 2048)
    padded = sum(len(batch) * lengths[batch[0]] for batch in plan)
    assert padded / sum(lengths) < 1.03
