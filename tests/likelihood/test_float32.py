"""Scores in float32 are float32's where the process has asked PyTorch for shorter products."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny
import torch

from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.prompt import load_template
from tests.products import WHOLE, settings, watched

pytestmark = pytest.mark.filterwarnings("ignore:Please use the new API")


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
    asked = settings()
    assert asked[0] == "tf32"
    folder = str(tiny.save_model(tmp_path / "model"))
    seen = watched(monkeypatch)
    # Loading, too, reads a few tokens, and compares what comes of them.
    model = LanguageModel.load(folder, "float32", "cpu")
    assert seen
    scorer = Scorer(model, load_template("plain"))
    sequences = scorer.encode([("why", "", "A moth."), ("what", "", "A moth.")])
    scorer.log_probs(sequences)
    SharedScorer(scorer, "on").log_probs([sequences])
    assert seen and all(one == WHOLE for one in seen)
    assert settings() == asked
