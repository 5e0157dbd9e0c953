"""The adapters that ship: whole, small, for the embedded model, and trained."""

import json
import re

import pytest
import torch

from qpeft_rerank.adapters.find import find_adapter, shipped_adapters
from qpeft_rerank.adapters.store import load_adapter
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.prompt import load_template

#: Each, and on how many questions of NQ, TriviaQA, WebQuestions and SQuAD it was trained.
QUESTIONS = {"smollm2-135m-a": [1903, 2000, 320, 2000], "smollm2-135m-r": [640, 640, 320, 640]}
NAMES = list(QUESTIONS)
PAIRS = [
    ("who wrote the first compiler", "Grace Hopper", "Grace Hopper wrote one of the first compilers, the A-0 System."),
    ("what is the capital of peru", "Lima", "Lima is the capital and the largest city of Peru, on the Pacific coast."),
    ("when did the titanic sink", "Titanic", "The Titanic sank on 15 April 1912 after striking an iceberg."),
]


def test_they_are_listed():
    assert shipped_adapters() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_files_are_small_and_name_no_machine(name):
    folder = find_adapter(name)
    assert sum(path.stat().st_size for path in folder.iterdir()) < 4 * 1024 * 1024
    for path in folder.glob("*.[mj]*"):
        assert not re.search(r"(/tmp|/home|/root|/work)/", path.read_text("utf-8")), path
    record = json.loads((folder / "training.json").read_text("utf-8"))
    assert [file["questions"] for file in record["data"]] == QUESTIONS[name]
    # Chosen on dev, above the model alone.
    assert record["dev"]["dev MRR@10"] > record["dev"]["dev MRR@10, zero-shot"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_they_make_the_true_question_likelier(name, smollm2):
    found = load_adapter(name, smollm2)
    trained = Scorer(smollm2, found.template, found.hinter)
    plain = Scorer(smollm2, load_template("plain"))
    sequences = trained.encode(PAIRS)
    logs = trained.log_probs(sequences)
    for with_adapter, without in zip(logs, plain.log_probs(plain.encode(PAIRS)), strict=True):
        assert with_adapter.mean() > without.mean()
    # Hints follow the passage, so it may be read once for several questions.
    shared = SharedScorer(trained, "on")
    assert shared.works
    row = trained.encode([(query, "Lima", PAIRS[1][2]) for query, _, _ in PAIRS])
    together, alone = shared.log_probs([row]), trained.log_probs(row)
    assert torch.allclose(torch.cat(together), torch.cat(alone), atol=1e-4)
