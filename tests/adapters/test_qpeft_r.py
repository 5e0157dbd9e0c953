"""The choice of hint tokens, against plain loops, and its corners."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.adapters.qpeft_r.selection import best, first_of_equals
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.scorer import Scorer, encode_pairs
from qpeft_rerank.prompt.builder import HINT_SLOT, PromptBuilder


def hints_of(adapter, model, template, *pairs):
    """The hints of each pair, as token ids."""
    sequences = Scorer(model, template, adapter).encode(pairs)
    longest = max(map(len, sequences))
    ids = torch.tensor([sequence.ids + [0] * (longest - len(sequence)) for sequence in sequences])
    return [trace.hints for trace in adapter.explain(sequences, ids)]


def encoded(model, text):
    return model.pieces.encode([text])[0]


def passage_ids(model, template, text):
    return list(Scorer(model, template).builder.encode_passages([("", text)])[0].ids)


PASSAGE = "Grace Hopper wrote the first compiler and popularised the word bug."


@given(st.lists(st.sampled_from([-torch.inf, -2.5, -1e-30, -0.0, 0.0, 1e-30, 0.5, 1.0, 3e38]), min_size=1))
def test_best_orders_by_value_then_place(values):
    expected = sorted(range(len(values)), key=lambda place: (-values[place], place))
    assert best(torch.tensor([values]), len(values))[0].tolist() == expected


@given(st.lists(st.lists(st.integers(0, 5), min_size=6, max_size=6), min_size=1, max_size=4))
def test_first_of_equals(rows):
    found = first_of_equals(torch.tensor(rows)).tolist()
    assert found == [[token not in row[:place] for place, token in enumerate(row)] for row in rows]


@pytest.mark.parametrize("letters", ["d", "dq", "dqs", "dqsa", "q", "", "sa"])
@pytest.mark.parametrize("k", [1, 4, 40])
def test_corrected_by_loops(letters, k, model, plain):
    adapter = create_adapter("qpeft-r", model, plain, k=k, filters=letters)
    query_text = "who wrote the first bug"
    query, passage = encoded(model, " " + query_text), passage_ids(model, plain, PASSAGE)
    table = torch.nn.functional.normalize(model.embedding.weight.double(), dim=1)
    pairs = [
        (-float((table[q] @ table[x]).float()), i, j, x) for i, q in enumerate(query) for j, x in enumerate(passage)
    ]
    left = []
    for _, _, _, token in sorted(pairs):
        text = model.pieces.tokenizer.decode([token])
        if "d" in letters and token in left:
            continue
        if "q" in letters and token in query:
            continue
        if "s" in letters and text.strip().lower() in ("the", "and", "a", "s", "t", "to", "in"):
            continue
        if "a" in letters and not any(c.isalpha() for c in text):
            continue
        left.append(token)
    assert hints_of(adapter, model, plain, (query_text, "", PASSAGE))[0] == left[:k]


def test_untrained_hints_are_the_words_that_query_and_passage_share(model, plain):
    adapter = create_adapter("qpeft-r", model, plain, k=200)
    query = encoded(model, " first bug")
    found = hints_of(adapter, model, plain, ("first bug", "", PASSAGE))[0]
    shared = [token for token in dict.fromkeys(query) if token in passage_ids(model, plain, PASSAGE)]
    assert found[: len(shared)] == shared
    assert sorted(found) == sorted(set(passage_ids(model, plain, PASSAGE)))


def test_short_passages_have_fewer_hints(model, plain):
    adapter = create_adapter("qpeft-r", model, plain, k=15)
    few, none = Scorer(model, plain, adapter).encode([("bug", "", "ab ab"), ("bug", "", "")])
    distinct = set(passage_ids(model, plain, "ab ab"))
    start, end = few.body_span("hints")
    assert end - start == len(distinct)
    assert none.body_span("hints")[0] == none.body_span("hints")[1]
    assert none.span("hints")[0] < none.span("hints")[1]


def test_a_passage_of_stop_words_goes_unfiltered(model, plain):
    adapter = create_adapter("qpeft-r", model, plain, k=15, filters="dsa")
    assert sorted(hints_of(adapter, model, plain, ("bug", "", "and the . ,"))[0]) == sorted(
        set(passage_ids(model, plain, "and the . ,"))
    )


def test_what_some_passages_lack_is_told_once(model, plain, capsys):
    adapter = create_adapter("qpeft-r", model, plain, k=10, filters="ds")
    for _ in range(2):
        hints_of(adapter, model, plain, ("bug", "", "the and"), ("bug", "", PASSAGE))
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 2
    assert "filters ds leave nothing of a passage" in told[0] and "hints, not k 10" in told[1]
    attentive = create_adapter("qpeft-a", model, plain, filters="s")
    hints_of(attentive, model, plain, ("bug", "", "the and"), ("bug", "", "and the"))
    (line,) = capsys.readouterr().err.splitlines()
    assert "qpeft-a: filters s hide all of a passage" in line


def test_template_tokens_are_never_hints(model, qpeft):
    adapter = create_adapter("qpeft-r", model, qpeft, k=100)
    found = hints_of(adapter, model, qpeft, ("Passage: Question:", "", PASSAGE))[0]
    assert set(found) == set(passage_ids(model, qpeft, PASSAGE))


def test_a_cut_passage_repeats_its_hints(model, plain):
    adapter = create_adapter("qpeft-r", model, plain, k=6)
    sequences = Scorer(model, plain, adapter, max_passage_tokens=2).encode([("bug", "", PASSAGE)])
    found = adapter.explain(sequences, torch.tensor([sequences[0].ids]))[0].hints
    assert len(found) == 6 and found == found[:2] * 3
    assert set(found) == set(passage_ids(model, plain, PASSAGE)[:2])


def test_textual_hints_are_the_words_themselves(model, plain):
    """Scores equal those of a prompt with the hints written into it."""
    adapter = create_adapter("qpeft-r", model, plain, "textual", k=3)
    scorer = Scorer(model, plain, adapter)
    sequence = scorer.encode([("first bug", "", PASSAGE)])[0]
    hints = adapter.explain([sequence], torch.tensor([sequence.ids]))[0].hints
    start, end = sequence.body_span("hints")
    ids = torch.tensor([[*sequence.ids[:start], *hints, *sequence.ids[end:]]])
    logs = model.model(input_ids=ids).logits[0].log_softmax(-1)
    n = len(sequence.target)
    expected = float(logs[-n - 1 : -1].gather(1, ids[0, -n:, None]).sum())
    assert scorer.score([sequence])[0].total == pytest.approx(expected, abs=1e-4)
    untrained = create_adapter("qpeft-r", model, plain, k=3, start=None)
    assert Scorer(model, plain, untrained).score([sequence])[0].total == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["qpeft-r", "qpeft-a"])
def test_without_weight_hints_are_the_start(name, model, plain):
    """At gate 0 the slots read as the start's last token, whatever the query."""
    adapter = create_adapter(name, model, plain, start="the bug", gate=0.0)
    scorer = Scorer(model, plain, adapter)
    sequence = scorer.encode([("first bug", "", PASSAGE)])[0]
    start, end = sequence.body_span("hints")
    filler = model.pieces.encode(["the bug"])[0][-1:] * (end - start)
    ids = torch.tensor([[*sequence.ids[:start], *filler, *sequence.ids[end:]]])
    logs = model.model(input_ids=ids).logits[0].log_softmax(-1)
    n = len(sequence.target)
    expected = float(logs[-n - 1 : -1].gather(1, ids[0, -n:, None]).sum())
    assert scorer.score([sequence])[0].total == pytest.approx(expected, abs=1e-4)
    heard = Scorer(model, plain, create_adapter(name, model, plain, start="the bug", gate=1.0))
    assert heard.score([sequence])[0].total != pytest.approx(expected, abs=1e-4)


def test_a_start_without_tokens_is_refused(model, llama, plain):
    with pytest.raises(InputError, match="start is a text"):
        create_adapter("qpeft-r", model, plain, start="")
    with pytest.raises(InputError, match="start ' ' is no token of this model's"):
        create_adapter("qpeft-r", llama, plain, start=" ")


def test_vocabulary_by_loops(model, plain):
    adapter = create_adapter("qpeft-r", model, plain, k=7, filters="dq", source="vocabulary")
    adapter.cover(range(100, 140))
    with torch.no_grad():
        adapter.table.rows.mul_(1.5).add_(0.1)
    table = adapter.table(torch.arange(512)).detach().double()
    table = torch.nn.functional.normalize(table, dim=1)
    query = encoded(model, " first bug")
    size, special = len(model.pieces.tokenizer), set(model.pieces.tokenizer.all_special_ids)
    pairs = sorted((-float((table[q] @ table[x]).float()), i, x) for i, q in enumerate(query) for x in range(size))
    left = [x for x in dict.fromkeys(x for _, _, x in pairs) if x not in special and x not in query]
    assert hints_of(adapter, model, plain, ("first bug", "", PASSAGE))[0] == left[:7]


def test_expansion_by_loops(model, plain):
    adapter = create_adapter("qpeft-r", model, plain, k=2, source="expansion")
    table = torch.nn.functional.normalize(model.embedding.weight.double(), dim=1)
    query = encoded(model, " first bug")
    size, special = len(model.pieces.tokenizer), set(model.pieces.tokenizer.all_special_ids)
    near = []
    for q in query:
        others = [x for x in range(size) if x != q and x not in special]
        near.append(sorted(others, key=lambda x: (-float((table[q] @ table[x]).float()), x))[:2])
    expected = [neighbours[rank] for rank in range(2) for neighbours in near]
    found = hints_of(adapter, model, plain, ("first bug", "", PASSAGE), ("a longer query than that", "", "x"))
    assert found[0] == expected


def test_random_hints_know_nothing_of_similarity(model, plain):
    pair = ("first bug", "", PASSAGE)
    made = [create_adapter("qpeft-r", model, plain, "random", k=5, draw_seed=seed) for seed in range(6)]
    found = [hints_of(adapter, model, plain, pair)[0] for adapter in made]
    assert len({tuple(hints) for hints in found}) > 3
    assert found[0] == hints_of(made[0], model, plain, ("a much longer query", "", PASSAGE * 2), pair)[1]
    for hints in found:
        assert len(set(hints)) == 5 and set(hints) <= set(passage_ids(model, plain, PASSAGE))


def test_a_passage_cut_to_nothing_keeps_its_slots(model, plain):
    adapter = create_adapter("qpeft-r", model, plain, k=3)
    builder = PromptBuilder(plain, model.pieces, model.max_tokens, max_passage_tokens=0)
    sequences = encode_pairs(builder, [("bug", "", PASSAGE)], adapter)
    assert adapter.explain(sequences, torch.tensor([sequences[0].ids]))[0].hints == [HINT_SLOT] * 3
    assert torch.isfinite(model.target_log_probs(sequences, adapter)).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"k": "5"}, "k is a whole number"),
        ({"k": True}, "k is a whole number"),
        ({"filters": "dx"}, "filters are letters of 'dqsa'"),
        ({"filters": "dd"}, "filters are letters of 'dqsa'"),
        ({"source": "web"}, "source is passage or vocabulary"),
        ({"pool": 3}, "pool 3 is smaller than k"),
        ({"layers": -1}, "layers must be at least 0"),
        ({"heads": 2}, "no option 'heads'"),
    ],
)
def test_bad_options(options, words, model, plain):
    with pytest.raises(InputError, match=words) as caught:
        create_adapter("qpeft-r", model, plain, **options)
    assert "\n" not in str(caught.value)


def test_unknown_names(model, plain):
    with pytest.raises(InputError, match="qpeft-a, qpeft-r, soft-prompt"):
        create_adapter("qpeft", model, plain)
    with pytest.raises(InputError, match="no preset 'best'"):
        create_adapter("qpeft-r", model, plain, "best")
    with pytest.raises(InputError, match="prompt piece"):
        create_adapter("qpeft-r", model, plain, soft_prompt=True)


def test_a_query_that_hints_leave_no_room_for_is_refused_before_scoring(model, qpeft):
    """What :meth:`Scorer.check` lets pass, a passage of many tokens does not stop."""
    adapter = create_adapter("qpeft-r", model, qpeft, k=7)
    scorer = Scorer(model, qpeft, adapter)
    passage = "a bee makes honey from flowers and lives in a hive with others " * 9
    refused = []
    for length in range(model.max_tokens - 90, model.max_tokens):
        query = "q" * length  # a token each
        refused.append([_refuses(scorer.check, query), _refuses(scorer.encode, [(query, "", passage)])])
    assert all(checked == encoded for checked, encoded in refused)
    assert [False, False] in refused and [True, True] in refused


def _refuses(what, given):
    try:
        what(given)
    except InputError:
        return True
    return False
