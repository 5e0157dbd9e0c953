"""The soft prompt starts as the prompt it replaces."""

import pytest

from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.prompt import Template

PAIR = ("first bug", "Ada", "the word bug")


@pytest.mark.parametrize("kind", ["model", "llama"])
def test_untrained_equals_the_plain_prompt(kind, request, qpeft):
    model = request.getfixturevalue(kind)
    adapter = create_adapter("soft-prompt", model, qpeft)
    with_adapter, bare = Scorer(model, qpeft, adapter), Scorer(model, qpeft)
    sequences = bare.encode([PAIR])
    assert with_adapter.encode([PAIR]) == sequences
    assert with_adapter.score(sequences)[0].total == pytest.approx(bare.score(sequences)[0].total, abs=1e-5)


def test_another_prompt_is_refused(model, qpeft):
    adapter = create_adapter("soft-prompt", model, qpeft)
    other = Template("other", passage="{passage}", question="?", target=" {query}", prompt="ask:")
    scorer = Scorer(model, other, adapter)
    with pytest.raises(InputError, match="another number of tokens"):
        scorer.score(scorer.encode([PAIR]))


def test_a_prompt_piece_is_needed(model, plain):
    with pytest.raises(InputError, match="prompt piece"):
        create_adapter("soft-prompt", model, plain)
