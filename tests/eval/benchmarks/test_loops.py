"""The rivals' loops compute what the reference scorer computes."""

import pytest
import torch

from eval.benchmarks.loops import LOOPS
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.prompt.templates import load_template

PAIRS = [
    ("who wrote the first program", "Ada", "Ada Lovelace wrote it."),
    ("bug?", "", "Grace Hopper wrote the first compiler and popularised the word bug."),
    ("why does the quick brown fox jump over the lazy dog", "", "x"),
    ("who wrote the first program", "", ""),
]


@pytest.mark.parametrize("batch", [1, 2, 3, 8])
@pytest.mark.parametrize("name", LOOPS)
def test_scores_are_the_references(name, batch, model):
    loaded = LanguageModel.load(str(model), "float32", "cpu")
    scorer = Scorer(loaded, load_template("plain"))
    sequences = scorer.encode(PAIRS)
    expected = [scorer.score([sequence])[0].total for sequence in sequences]
    with torch.inference_mode():
        found = LOOPS[name](loaded.model, sequences, batch, max(map(len, sequences)) + 3)
    assert found == pytest.approx(expected, abs=1e-3)
    assert len({round(score, 2) for score in expected}) == len(PAIRS)
