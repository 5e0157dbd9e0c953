"""The adapters on the embedded model."""

import pytest

from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import load_adapter, save_adapter
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.prompt import load_template

PASSAGE = "Grace Hopper, a rear admiral of the United States Navy, wrote one of the first compilers."
PAIRS = [("who wrote the first compiler", "Grace Hopper", PASSAGE), ("why", "", "no"), ("who is it", "", "")]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "preset", "template", "size"),
    [
        ("qpeft-r", "corrected", "plain", 10),
        ("qpeft-r", "textual", "plain", 1),
        ("qpeft-a", "corrected", "plain", 20),
        ("qpeft-a", "faithful", "qpeft", 20),
        ("soft-prompt", "corrected", "qpeft", 1),
    ],
)
def test_scores_and_size(name, preset, template, size, smollm2, tmp_path):
    prompt = load_template(template)
    adapter = create_adapter(name, smollm2, prompt, preset)
    scorer = Scorer(smollm2, prompt, adapter)
    sequences = scorer.encode(PAIRS)
    together = [score.total for score in scorer.score(sequences)]
    assert together == pytest.approx([scorer.score([sequence])[0].total for sequence in sequences], abs=2e-3)
    folder = save_adapter(adapter, smollm2, prompt, tmp_path / "saved")
    assert sum(path.stat().st_size for path in folder.iterdir()) < size * 1e6
    back = load_adapter(str(folder), smollm2)
    assert back.hinter.identity == adapter.identity
    assert [score.total for score in Scorer(smollm2, prompt, back.hinter).score(sequences)] == together


@pytest.mark.slow
def test_hints_of_a_real_question(smollm2):
    prompt = load_template("plain")
    adapter = create_adapter("qpeft-r", smollm2, prompt, k=4, filters="dsa")
    (trace,) = traces = adapter.explain(*_batch(Scorer(smollm2, prompt, adapter).encode(PAIRS[:1])))
    words = smollm2.pieces.tokenizer.batch_decode([[token] for token in trace.hints])
    assert len(traces) == 1 and {" wrote", " first"} <= set(words)
    assert trace.similarities[0] == 1.0
    (attended,) = create_adapter("qpeft-a", smollm2, prompt).explain(
        *_batch(Scorer(smollm2, prompt, create_adapter("qpeft-a", smollm2, prompt)).encode(PAIRS[:1]))
    )
    query = smollm2.pieces.encode([" who wrote the first compiler"])[0]
    place = query.index(smollm2.pieces.encode([" wrote"])[0][0])
    best = max(range(len(attended.passage)), key=lambda at: attended.weights[place][at])
    assert attended.passage[best] == query[place]


def _batch(sequences):
    import torch

    longest = max(map(len, sequences))
    return sequences, torch.tensor([sequence.ids + [0] * (longest - len(sequence)) for sequence in sequences])
