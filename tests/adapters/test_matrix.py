"""What holds for every adapter. A new one adds a row to ``ADAPTERS``."""

import random
import string
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qpeft_rerank.adapters.registry import adapter_kinds, create_adapter
from qpeft_rerank.adapters.store import load_adapter, save_adapter
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer

ADAPTERS = [
    ("qpeft-r", "corrected", {}),
    ("qpeft-r", "faithful", {}),
    ("qpeft-r", "textual", {}),
    ("qpeft-r", "random", {}),
    ("qpeft-r", "corrected", {"k": 4, "filters": "dqsa", "soft_prompt": True}),
    ("qpeft-r", "corrected", {"k": 6, "filters": "", "similarity": "dot"}),
    ("qpeft-r", "corrected", {"source": "vocabulary", "filters": "dq", "k": 5}),
    ("qpeft-r", "corrected", {"source": "expansion", "k": 2}),
    ("qpeft-r", "faithful", {"filters": "dqsa", "k": 30, "source": "random"}),
    ("qpeft-a", "corrected", {}),
    ("qpeft-a", "faithful", {}),
    ("qpeft-a", "corrected", {"filters": "qsa", "heads": 4, "soft_prompt": True}),
    ("soft-prompt", "corrected", {}),
    ("soft-prompt", "faithful", {"layers": 1}),
]
IDS = [" ".join([name, preset, *map(str, options.values())]) for name, preset, options in ADAPTERS]
WORDS = ["the", "of", "compiler", "Ada", "bug", "first", "program", "1815", "...", "Gödel", "日本", "s"]
TEXT = st.one_of(
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.text(st.sampled_from(string.ascii_letters + " .,?é\n"), max_size=30),
)
PAIR = st.tuples(TEXT.filter(str.strip), st.sampled_from(["", "Ada"]), TEXT)
BASE = [
    ("who wrote the first program", "Ada", "Ada Lovelace wrote the first program."),
    ("bug", "", "the bug " * 12),
    ("why is it so", "", ""),
]
quick = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def stirred(adapter, seed=0):
    """The adapter as if trained: every trainable number moved, E' rows of some ids included."""
    generator = torch.Generator().manual_seed(seed)
    adapter.cover(range(3, 200, 3))
    with torch.no_grad():
        for parameter in adapter.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return adapter


def totals(scorer, sequences):
    return [score.total for score in scorer.score(sequences)]


# Every preset is among the quick tests, its options are not.
@pytest.fixture(
    scope="module", ids=IDS, params=[pytest.param(row, marks=pytest.mark.slow if row[2] else ()) for row in ADAPTERS]
)
def made(request, model, qpeft):
    name, preset, options = request.param
    return stirred(create_adapter(name, model, qpeft, preset, **options))


@pytest.fixture(scope="module")
def scorer(made, model, qpeft):
    return Scorer(model, qpeft, made)


def test_matrix_is_complete():
    assert {name for name, _, _ in ADAPTERS} == set(adapter_kinds())
    for name, kind in adapter_kinds().items():
        assert {preset for row, preset, _ in ADAPTERS if row == name} == set(kind.config.presets)


@quick
@given(pairs=st.lists(PAIR, min_size=1, max_size=4), seed=st.integers(0, 99))
def test_score_does_not_depend_on_the_batch(scorer, pairs, seed):
    sequences = scorer.encode([*pairs, *BASE])
    alone = [totals(scorer, [sequence])[0] for sequence in sequences]
    order = list(range(len(sequences)))
    random.Random(seed).shuffle(order)
    together = totals(scorer, [sequences[place] for place in order])
    assert together == pytest.approx([alone[place] for place in order], abs=2e-4)


@quick
@given(pair=PAIR, width=st.integers(1, 40))
def test_padding_changes_nothing(scorer, model, made, pair, width):
    sequences = scorer.encode([pair])
    ids = torch.tensor([sequences[0].ids])
    padded = torch.nn.functional.pad(ids, (0, width))
    with torch.no_grad():
        short = made(sequences, ids, model.embedding(ids))
        long = made(sequences, padded, model.embedding(padded))
    torch.testing.assert_close(long[:, : ids.shape[1]], short)
    assert torch.equal(long[:, ids.shape[1] :], model.embedding(padded)[:, ids.shape[1] :])


def test_only_hints_and_prompt_change(scorer, model, made):
    sequences = scorer.encode(BASE)
    for sequence in sequences:
        ids = torch.tensor([sequence.ids])
        embedded = model.embedding(ids)
        with torch.no_grad():
            filled = made([sequence], ids, embedded)
        allowed = torch.zeros(len(sequence), dtype=torch.bool)
        for kind in ("hints", "prompt"):
            start, end = sequence.span(kind) or (0, 0)
            allowed[start:end] = True
        assert torch.equal(filled[0, ~allowed], embedded[0, ~allowed])


def test_prefix_does_not_depend_on_the_query(scorer, model, made):
    passage = ("Ada", "Ada Lovelace wrote the first program for the Engine.")
    first, second = scorer.encode([("who wrote it", *passage), ("a compiler bug, is it not", *passage)])
    length = first.shared_length
    assert length == second.shared_length
    assert length >= (first.span("passage") or (0, 0))[1]
    filled = []
    for sequence in (first, second):
        ids = torch.tensor([sequence.ids])
        with torch.no_grad():
            filled.append(made([sequence], ids, model.embedding(ids))[0, :length])
    assert torch.equal(*filled)


def test_round_trip(made, scorer, model, qpeft, tmp_path):
    folder = save_adapter(made, model, qpeft, tmp_path / "saved")
    back = load_adapter(str(folder), model)
    assert back.template == qpeft
    assert back.hinter.identity == made.identity
    assert back.hinter.config == made.config
    sequences = scorer.encode(BASE)
    again = Scorer(model, back.template, back.hinter)
    assert again.encode(BASE) == sequences
    assert totals(again, sequences) == totals(scorer, sequences)
    assert again.fingerprint == scorer.fingerprint
    assert not list(folder.glob("*.bin")) and not list(tmp_path.glob(".*"))


def test_same_seed_same_adapter(request, made, model, qpeft):
    name, preset, options = request.node.callspec.params["made"]
    twins = [create_adapter(name, model, qpeft, preset, **options).identity for _ in range(2)]
    assert twins[0] == twins[1]
    if any(parameter.requires_grad for parameter in made.parameters()):
        assert twins[0] != made.identity


@pytest.mark.parametrize(("name", "preset", "options"), ADAPTERS, ids=IDS)
def test_a_step_changes_no_base_weight(name, preset, options, model, qpeft):
    adapter = stirred(create_adapter(name, model, qpeft, preset, **options))
    learning = [part.parameter for part in adapter.trainable_parts().values()]
    before = {key: tensor.clone() for key, tensor in model.model.state_dict().items()}
    old = adapter.identity
    sequences = Scorer(model, qpeft, adapter).encode(BASE)
    loss = -model.target_log_probs(sequences, adapter).mean()
    if preset == "textual":
        assert learning == [] and not loss.requires_grad
        return
    optimizer = torch.optim.AdamW(learning, lr=1e-2)
    loss.backward()
    optimizer.step()
    assert all(parameter.grad is None for parameter in model.model.parameters())
    assert all(torch.equal(before[key], tensor) for key, tensor in model.model.state_dict().items())
    assert adapter.identity != old
    assert float(-model.target_log_probs(sequences, adapter).mean().detach()) < float(loss.detach())


def test_off_is_the_base_model(made, scorer, model, qpeft):
    bare = Scorer(model, qpeft)
    sequences = bare.encode(BASE)
    before = totals(bare, sequences)
    totals(scorer, scorer.encode(BASE))
    assert totals(bare, sequences) == before
    ids = torch.tensor([sequences[0].ids])
    logs = model.model(input_ids=ids).logits.float().log_softmax(-1)
    target = len(sequences[0].target)
    expected = logs[0, -target - 1 : -1].gather(1, ids[0, -target:, None]).sum()
    assert before[0] == pytest.approx(float(expected), abs=1e-4)


def test_hints_before_the_passage(made, model, qpeft):
    """The authors' ``prefix`` variant (3.2): same adapter, other place."""
    front = Scorer(model, replace(qpeft, hints_first=True), made)
    sequences = front.encode(BASE)
    assert totals(front, sequences) == pytest.approx([totals(front, [one])[0] for one in sequences], abs=2e-4)
    for sequence in sequences:
        hints = sequence.span("hints")
        assert hints is None or hints[1] == sequence.span("passage")[0]


@pytest.mark.parametrize(("name", "preset", "options"), ADAPTERS, ids=IDS)
def test_half_precision(name, preset, options, model, qpeft):
    """The adapter stays in float32 on a bfloat16 model, and gives what the model can take."""
    half = LanguageModel.load(str(model.source.folder), dtype="bfloat16", device="cpu")
    adapter = stirred(create_adapter(name, half, qpeft, preset, **options))
    assert {parameter.dtype for parameter in adapter.parameters()} <= {torch.float32}
    scorer = Scorer(half, qpeft, adapter)
    assert torch.isfinite(torch.tensor(totals(scorer, scorer.encode(BASE)))).all()
