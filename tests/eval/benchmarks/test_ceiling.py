"""The ceiling of a dtype is that of the products which the engine computes in it."""

import pytest
from torch import Tensor

from eval.benchmarks import ceiling
from qpeft_rerank.likelihood.narrow import NarrowLinear


@pytest.mark.usefixtures("one_product")
@pytest.mark.parametrize(("dtype", "rounds"), [("mixed", True), ("bfloat16", False), ("float32", False)])
def test_without_packed_layers_mixed_is_tried_as_it_is_computed(
    dtype: str, rounds: bool, model: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Seen(NarrowLinear):
        rows = 0

        def forward(self, states: Tensor) -> Tensor:
            Seen.rows += len(states)
            return super().forward(states)

    monkeypatch.setattr(ceiling, "can_pack", lambda device: False)
    monkeypatch.setattr(ceiling, "NarrowLinear", Seen)
    found = ceiling.ceiling({"model": str(model), "dtype": dtype, "threads": 1})
    assert min(found.values()) > 0
    assert (Seen.rows > 0) == rounds
