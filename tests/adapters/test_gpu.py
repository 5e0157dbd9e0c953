"""Scoring on a GPU: the processor's scores, nothing of its memory among the GPU's, and few waits for it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import tiny
import torch

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.precision import ROUNDING
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.prompt import load_template
from tests.gpu import NAME, gpu

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
LONG = "Ada Lovelace wrote it for the engine. " * 3
PAIRS = [
    ("who wrote the first program", "Ada", LONG),
    ("who wrote the first compiler", "Ada", LONG),
    ("why", "", "A moth."),
    ("what", "", "A moth."),
]
LM = {"task_type": "CAUSAL_LM"}
Make = Callable[[LanguageModel], Any]


def own(name: str, preset: str = "corrected", **options: Any) -> Make:
    return lambda model: create_adapter(name, model, load_template("qpeft"), preset, seed=3, **options)


def of_peft(config: Callable[[], Any]) -> Make:
    return lambda model: PeftAdapter.create(model, config(), seed=3)


ADAPTERS: dict[str, Make] = {
    "none": lambda model: None,
    "qpeft-r": own("qpeft-r", k=4),
    "qpeft-r, faithful": own("qpeft-r", "faithful", k=4),
    "random": own("qpeft-r", k=4, source="random"),
    "vocabulary": own("qpeft-r", k=4, source="vocabulary"),
    "expansion": own("qpeft-r", k=2, source="expansion"),
    "qpeft-a": own("qpeft-a", soft_prompt=True),
    "qpeft-a, faithful": own("qpeft-a", "faithful"),
    "soft-prompt": own("soft-prompt"),
    "lora": of_peft(lambda: peft.LoraConfig(r=2, init_lora_weights=False, target_modules="all-linear", **LM)),
    "prefix": of_peft(lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, **LM)),
    "prompt": of_peft(lambda: peft.PromptTuningConfig(num_virtual_tokens=3, **LM)),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "tiny")


def scores(folder: Path, dtype: str, device: str, make: Make, shares: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Log-probabilities pair by pair, and of shared rows where such are possible."""
    model = LanguageModel.load(str(folder), dtype, device)
    assert str(model.device) == device and model.body is not None
    scorer = Scorer(model, load_template("qpeft"), make(model))
    sequences = scorer.encode(PAIRS)
    shared = SharedScorer(scorer, "on")
    assert shared.works is shares
    apart = torch.cat(scorer.log_probs(sequences))
    return apart, torch.cat(shared.log_probs([sequences[:2], sequences[2:]])) if shares else None


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        pytest.param(name, dtype, marks=() if name in {"qpeft-r", "qpeft-a", "lora", "prefix"} else pytest.mark.slow)
        for name, dtype in [*((name, "float32") for name in ADAPTERS), ("none", "bfloat16"), ("qpeft-a", "bfloat16")]
    ],
)
def test_scores_are_the_processor_s(name: str, dtype: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shares = name != "prefix"
    expected, _ = scores(folder, dtype, "cpu", ADAPTERS[name], shares)
    with gpu(monkeypatch):
        apart, together = scores(folder, dtype, NAME, ADAPTERS[name], shares)
    for found in (apart, together):
        if found is not None:
            assert type(found) is torch.Tensor
            torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING[dtype])


@pytest.mark.parametrize("name", ["qpeft-r", "qpeft-a", "soft-prompt"])
def test_waits_do_not_grow_with_rows_or_layers(
    name: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for place in (folder, tiny.save_model(tmp_path / "deeper", num_hidden_layers=4)):
        with gpu(monkeypatch) as waits:
            model = LanguageModel.load(str(place), "float32", NAME)
            scorer = Scorer(model, load_template("qpeft"), ADAPTERS[name](model))
            shared, sequences = SharedScorer(scorer, "on"), scorer.encode(PAIRS)
            for rows in ([sequences[:2]], [sequences[:2], sequences[2:]]):
                model.forget()
                waits.clear()
                shared.log_probs(rows)
                found.append(waits.copy())
    assert all(one == found[0] for one in found)
