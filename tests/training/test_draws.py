"""No two micro-batches of a training draw the same dropout."""

import itertools

import torch
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.prompt.segments import Segment, Sequence
from qpeft_rerank.training.draws import part_seed, step_seed
from qpeft_rerank.training.gradients import GradientAccumulator
from qpeft_rerank.training.losses import make_loss


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**6))
def test_seeds_of_steps_ranks_and_parts_never_coincide(seed, step):
    steps, ranks, places, parts = (step, step + 1), (0, 1, 15, 16, 17, 32), (0, 1, 4096, 65535), (0, 1, 2, 16)
    found = [
        part_seed(step_seed(seed, one, rank) + place, part)
        for one, rank, place, part in itertools.product(steps, ranks, places, parts)
    ]
    assert len(set(found)) == len(found) and all(0 <= one < 2**64 for one in found)


@given(st.integers(0, 2**31 - 1), st.integers(0, 10**6))
def test_one_process_whose_micro_batches_are_whole_draws_as_ever(seed, step):
    assert step_seed(seed, step, 0) == ((seed << 40) + (step << 16)) % 2**63
    assert part_seed(seed, 0) == seed


def test_parts_of_neighbouring_groups_draw_differently():
    weight, drop, drawn = torch.nn.Parameter(torch.ones(32)), torch.nn.Dropout(0.5), []

    def values(sequences):
        kept = drop(torch.ones(len(sequences), 32)) * weight
        drawn.append(tuple((kept.detach() > 0).flatten().tolist()))
        return kept.sum(1)

    # Of one size, so that draws of the same seed would be the same; a part for each.
    group = [Sequence((Segment("passage", tuple(range(8))), Segment("target", (1, 2))))] * 3
    GradientAccumulator(values, make_loss("pointwise+hinge", 0.3, 0.1), [weight], 10).add([group] * 3, 3, 0)
    # Each part is read twice, with the same draws.
    assert len(drawn) == 18 and len(set(drawn)) == 9
