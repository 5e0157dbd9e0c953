"""Attention over the passage: its corners, its start, and what it tells."""

import pytest
import torch

from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.scorer import Scorer


def traced(adapter, model, template, *pairs):
    sequences = Scorer(model, template, adapter).encode(pairs)
    longest = max(map(len, sequences))
    ids = torch.tensor([sequence.ids + [0] * (longest - len(sequence)) for sequence in sequences])
    return adapter.explain(sequences, ids)


def test_a_vector_for_each_query_token(model, plain):
    adapter = create_adapter("qpeft-a", model, plain)
    sequence = Scorer(model, plain, adapter).encode([("first bug", "", "the bug")])[0]
    start, end = sequence.body_span("hints")
    assert end - start == len(model.pieces.encode([" first bug"])[0])


@pytest.mark.parametrize("selectable", ["passage", "row"])
def test_weights_lie_over_the_passage(selectable, model, qpeft):
    adapter = create_adapter("qpeft-a", model, qpeft, selectable=selectable)
    short, long = traced(adapter, model, qpeft, ("bug", "", "a bug"), ("first bug", "", "the first word, a bug"))
    for trace in (short, long):
        sums = torch.tensor(trace.weights).sum(1)
        assert all(len(row) == len(trace.passage) for row in trace.weights)
        assert (sums <= 1.001).all() and (selectable == "row" or (sums > 0.999).all())


def test_identity_start_looks_up_equal_tokens(model, plain):
    adapter = create_adapter("qpeft-a", model, plain, sharpness=60.0)
    query = model.pieces.encode([" first bug"])[0]
    (trace,) = traced(adapter, model, plain, ("first bug", "", "the word bug, the first word"))
    for token, row in zip(query, trace.weights, strict=True):
        if token in trace.passage:
            assert sum(weight for other, weight in zip(trace.passage, row, strict=True) if other == token) > 0.9


def test_filters_hide_tokens(model, plain):
    adapter = create_adapter("qpeft-a", model, plain, filters="q")
    query = model.pieces.encode([" first bug"])[0]
    (trace,) = traced(adapter, model, plain, ("first bug", "", "the word bug, the first word"))
    for row in trace.weights:
        hidden = [weight for other, weight in zip(trace.passage, row, strict=True) if other in query]
        assert hidden and max(hidden) == 0.0


def test_a_passage_hidden_altogether_is_shown(model, plain):
    passages = [("bug", "", "the and"), ("bug", "", "the bug and the first word"), ("bug", "", "")]
    adapter = create_adapter("qpeft-a", model, plain, filters="qsa")
    traces = traced(adapter, model, plain, *passages)
    bare = create_adapter("qpeft-a", model, plain)
    assert torch.allclose(
        torch.tensor(traces[0].weights),
        torch.tensor(traced(bare, model, plain, *passages)[0].weights),
        atol=1e-6,
    )
    scorer = Scorer(model, plain, adapter)
    assert all(torch.isfinite(torch.tensor(s.total)) for s in scorer.score(scorer.encode(passages)))


def test_dropout_only_while_training(model, plain):
    adapter = create_adapter("qpeft-a", model, plain, "faithful", dropout=0.5)
    scorer = Scorer(model, plain, adapter)
    sequences = scorer.encode([("first bug", "", "the word bug, the first word")])
    still = [scorer.score(sequences)[0].total for _ in range(2)]
    assert still[0] == still[1]
    adapter.train()
    moving = {scorer.score(sequences)[0].total for _ in range(4)}
    adapter.eval()
    assert len(moving) > 1 and scorer.score(sequences)[0].total == still[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"heads": 3}, "3 heads do not divide the model's 32"),
        ({"heads": 0}, "heads must be at least 1"),
        ({"dropout": 1.0}, "dropout is from 0"),
        ({"sharpness": 0.0}, "sharpness must be above 0"),
        ({"filters": "d"}, "filters are letters of 'qsa'"),
    ],
)
def test_bad_options(options, words, model, plain):
    with pytest.raises(InputError, match=words):
        create_adapter("qpeft-a", model, plain, **options)
