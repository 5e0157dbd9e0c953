"""Scores in float32 are float32's where the process has asked PyTorch for shorter products."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch

from qpeft_rerank.likelihood import linears
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.prompt import load_template

pytestmark = pytest.mark.filterwarnings("ignore:Please use the new API")
MATMULS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)


def older(name: str) -> Callable[[], None]:
    return lambda: torch.set_float32_matmul_precision(name)


def newer() -> None:
    torch.backends.cuda.matmul.fp32_precision = "tf32"


def oldest() -> None:
    torch.backends.cuda.matmul.allow_tf32 = True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize(
    "ask", [older("high"), older("medium"), newer, oldest], ids=["high", "medium", "newer", "oldest"]
)
def test_products_are_whole_while_a_model_and_a_batch_are_read(
    ask: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask()
    asked = [of.fp32_precision for of in MATMULS]
    assert asked[0] == "tf32"
    seen = []

    def looked_at(product: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def looked(*given: Any) -> torch.Tensor:
            if given[0].shape[-1] > 2:  # a product of ones, which tries out what works here, is exact in any way
                seen.append([of.fp32_precision for of in MATMULS])
            return product(*given)

        return looked

    folder = str(tiny.save_model(tmp_path / "model"))
    # MKL's products, and oneDNN's, which take their place where there is AVX-512.
    for owner, name in ((torch.nn.functional, "linear"), (linears, "_linear")):
        monkeypatch.setattr(owner, name, looked_at(getattr(owner, name)))
    # Loading, too, reads a few tokens, and compares what comes of them.
    model = LanguageModel.load(folder, "float32", "cpu")
    assert seen
    scorer = Scorer(model, load_template("plain"))
    sequences = scorer.encode([("why", "", "A moth."), ("what", "", "A moth.")])
    scorer.log_probs(sequences)
    SharedScorer(scorer, "on").log_probs([sequences])
    assert seen and all(one == ["ieee", "ieee"] for one in seen)
    assert [of.fp32_precision for of in MATMULS] == asked
