"""Passages read once: the reference's scores, token by token, whatever is grouped with what."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import peft
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from likelihood.test_scorer import KINDS
from transformers import Qwen2Config

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.likelihood.sharing import Attention, pays, plan_plain, plan_shared, total_tokens
from qpeft_rerank.prompt import load_template
from tests.slow import slow_but

WIDE = {
    "gemma3-wide": {"kind": "gemma", "model_type": "gemma3_text", "sliding_window": 200},
    "mistral": {"kind": "llama", "model_type": "mistral", "sliding_window": 60},
    "bloom": {"kind": "bytes", "model_type": "bloom", "n_layer": 2, "n_head": 4},
    "mamba": {"kind": "bytes", "model_type": "mamba"},
    "xlm": {"kind": "bytes", "model_type": "xlm", "emb_dim": 32, "n_layers": 2, "n_heads": 4, "causal": True},
}
# Windows of 16 tokens, capped or scaled logits, positions made from the mask, a recurrent state, no mask taken.
PLAIN = {"gemma3", "gemma2", "granite", "bloom", "mamba", "xlm"}
WORDS = st.text("abcdefgh .?\n", max_size=60)
GROUPED = st.lists(
    st.tuples(WORDS, WORDS, st.lists(WORDS.filter(str.strip), min_size=1, max_size=6)), min_size=1, max_size=5
)


def pairs_of(groups: list) -> list[tuple[str, str, str]]:
    """Passages and their queries, the passages' queries taking turns as they do in a run."""
    pairs = [(place, query, title, text) for title, text, queries in groups for place, query in enumerate(queries)]
    return [(query, title, text) for _, query, title, text in sorted(pairs, key=lambda pair: pair[0])]


def assert_equals_reference(shared: SharedScorer, pairs: list, budget: int) -> None:
    """Token by token and pair by pair, and the plan is whole and within its budget."""
    sequences = shared.scorer.encode(pairs)
    plan = shared.plan(sequences, budget)
    assert sorted(index for batch in plan for index in batch.indices) == list(range(len(sequences)))
    assert plan == shared.plan(sequences, budget)
    for batch in plan:
        assert batch.tokens <= budget or batch.rows == [batch.rows[0][:1]]
        rows = [[sequences[index] for index in row] for row in batch.rows]
        flat = [sequence for row in rows for sequence in row]
        expected = shared.scorer.log_probs(flat)
        if batch.shares:
            for found, logs in zip(shared.log_probs(rows), expected, strict=True):
                assert torch.allclose(found, logs, atol=1e-4, rtol=0)
        for score, logs, sequence in zip(shared.score(rows), expected, flat, strict=True):
            assert score.total == pytest.approx(float(logs.sum()), abs=1e-4 * len(logs))
            assert (score.tokens, score.truncated) == (len(sequence.target), sequence.truncated)


@pytest.fixture(scope="module", params=slow_but([*KINDS, *WIDE], "smollm2", "gemma3", "gemma3-wide"))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind: str, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("model") / kind
    return LanguageModel.load(str(tiny.save_model(folder, **{**KINDS, **WIDE}[kind])), "float32", "cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return LanguageModel.load(str(tiny.save_model(tmp_path_factory.mktemp("llama"), "llama")), "float32", "cpu")


@cache
def shared_scorer(model: LanguageModel, prompt: str, cut: int | None) -> SharedScorer:
    return SharedScorer(Scorer(model, load_template(prompt), None, cut), "on")


@pytest.mark.parametrize("prompt", ["plain", "qpeft"])
@given(groups=GROUPED, budget=st.sampled_from([1, 60, 200, 2048]), cut=st.sampled_from([None, 7]))
@settings(max_examples=15)
def test_any_grouping_equals_the_reference(
    model: LanguageModel, kind: str, prompt: str, groups: list, budget: int, cut: int | None
) -> None:
    shared = shared_scorer(model, prompt, cut)
    assert_equals_reference(shared, pairs_of(groups), budget)
    assert shared.works == (kind not in PLAIN)


def test_sequences_beyond_the_window_are_read_whole(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings_of = {"kind": "gemma", "model_type": "gemma3_text", "sliding_window": 60}
    folder = tiny.save_model(tmp_path_factory.mktemp("window") / "model", **settings_of)
    shared = shared_scorer(LanguageModel.load(str(folder), "float32", "cpu"), "plain", None)
    pairs = [(query, "", text) for text in ("wxyz " * 30, "short") for query in ("who", "why is it", "what")]
    assert shared.works and shared.attention.reach == 60
    sizes = {len(row) for batch in shared.plan(shared.scorer.encode(pairs), 2048) for row in batch.rows}
    assert sizes == {1, 3}
    assert_equals_reference(shared, pairs, 2048)


ADAPTERS = {
    "qpeft-r": {},
    "qpeft-a": {},
    "qpeft-a faithful": {},
    "qpeft-r soft": {"soft_prompt": True, "k": 4},
    "qpeft-r vocabulary": {"source": "vocabulary", "filters": "dq", "k": 5},
    "soft-prompt": {},
}


@pytest.fixture(scope="module", params=slow_but(ADAPTERS, "qpeft-r", "qpeft-a", "soft-prompt"))
def made(request: pytest.FixtureRequest, llama: LanguageModel):
    name, _, preset = request.param.partition(" ")
    preset = preset if preset == "faithful" else "corrected"
    return create_adapter(name, llama, load_template("qpeft"), preset, **ADAPTERS[request.param])


@pytest.mark.parametrize("trained", [False, True])
@given(groups=GROUPED, budget=st.sampled_from([90, 300, 2048]))
@settings(max_examples=10)
def test_adapters_equal_the_reference(llama: LanguageModel, made, trained: bool, groups: list, budget: int) -> None:
    kept = [parameter.detach().clone() for parameter in made.parameters()]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)) * trained)
        shared = SharedScorer(Scorer(llama, load_template("qpeft"), made), "on")
        assert shared.works
        assert_equals_reference(shared, pairs_of(groups), budget)
        for parameter, value in zip(made.parameters(), kept, strict=True):
            parameter.copy_(value)


def test_hints_before_the_passage_share_what_is_before_them(llama: LanguageModel) -> None:
    template = replace(load_template("qpeft"), hints_first=True)
    scorer = Scorer(llama, template, create_adapter("qpeft-a", llama, template))
    assert_equals_reference(SharedScorer(scorer, "on"), [(f"query {n}", "", "text") for n in range(9)], 2048)


@pytest.mark.parametrize(
    ("config", "works"),
    [
        (peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj"]), True),
        (peft.PromptTuningConfig(num_virtual_tokens=5), True),
        (peft.PrefixTuningConfig(num_virtual_tokens=6), False),  # its keys come from outside
    ],
    ids=["lora", "prompt-tuning", "prefix-tuning"],
)
def test_peft_methods(llama: LanguageModel, config: peft.PeftConfig, works: bool) -> None:
    config.task_type = "CAUSAL_LM"
    target = LanguageModel.load(llama.source, "float32", "cpu")
    shared = SharedScorer(Scorer(target, load_template("plain"), PeftAdapter.create(target, config)), "on")
    assert shared.works == works
    pairs = [(f"query {n % 3}", "", f"text {n // 3} " * 3) for n in range(9)]
    assert_equals_reference(shared, pairs, 200)


class Rewriting:
    """An adapter that makes the passage depend on the query."""

    identity = "rewriting"

    def hint_tokens(self, query, passage):
        return None

    def __call__(self, sequences, ids, embedded):
        embedded = embedded.clone()
        for row, sequence in enumerate(sequences):
            start, end = sequence.span("passage")
            embedded[row, start:end] *= 1 + len(sequence.target) % 3
        return embedded


def test_a_passage_that_depends_on_the_query_is_not_shared(
    llama: LanguageModel, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = SharedScorer(Scorer(llama, load_template("plain"), Rewriting()), "on")
    assert not shared.works
    assert_equals_reference(shared, [(f"query {n}", "", "text") for n in range(5)], 2048)
    assert "--share-passages on: not possible" in capsys.readouterr().err


def test_half_precision_is_shared_too(llama: LanguageModel) -> None:
    half = LanguageModel.load(llama.source, "bfloat16", "cpu")
    assert shared_scorer(half, "plain", None).works


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed"])
@pytest.mark.parametrize(
    ("works", "settings"),
    [
        (True, {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),
        (True, {"model_type": "mixtral", "num_local_experts": 4}),
        # Weights so small that what is wrong with them hides in the rounding of bfloat16: positions that are not
        # heeded, and a convolution that sees the query before.
        (False, {"model_type": "mpt", "d_model": 32, "n_layers": 2, "n_heads": 4, "initializer_range": 0.1}),
        (False, {"model_type": "lfm2", "layer_types": ["conv", "full_attention"], "initializer_range": 0.1}),
    ],
)
def test_what_rounding_would_hide_is_seen(works: bool, settings: dict, dtype: str, tmp_path: Path) -> None:
    model = LanguageModel.load(str(tiny.save_model(tmp_path / "model", **settings)), dtype, "cpu")
    kept = {name: weight.clone() for name, weight in model.model.named_parameters()}
    shared = SharedScorer(Scorer(model, load_template("plain")))
    assert model.body is None and shared.works is works
    for name, weight in model.model.named_parameters():
        assert weight.dtype == kept[name].dtype and torch.equal(weight, kept[name])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.model.modules())


def test_memory_running_out_halves_the_batch(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedScorer(Scorer(llama, load_template("plain")), "on")
    sequences = shared.scorer.encode([(f"query {n % 3}", "", f"text {n // 3}") for n in range(9)])
    rows = [sequences[start : start + 3] for start in (0, 3, 6)]
    expected = [score.total for score in shared.score(rows)]
    original, sizes = shared.log_probs, []

    def scarce(rows):
        sizes.append(len(rows))
        if len(rows) > 1 or rows[0] == sequences[:3]:
            raise torch.OutOfMemoryError("no memory")
        return original(rows)

    monkeypatch.setattr(shared, "log_probs", scarce)
    assert [score.total for score in shared.score(rows)] == pytest.approx(expected, abs=1e-4)
    assert sizes == [3, 1, 2, 1, 1]


def test_sharing_does_not_depend_on_memory(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = SharedScorer(Scorer(llama, load_template("plain")), "on")

    def full(rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(shared, "log_probs", full)
        with pytest.raises(InputError, match="out of memory on a few short texts"):
            _ = shared.works
    assert shared.works


def test_auto_shares_where_it_pays_and_asks_the_model_only_then(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    scorer = Scorer(llama, load_template("plain"))
    often = scorer.encode([(f"query {n % 4}", "", f"text {n // 4} " * 5) for n in range(40)])
    once = scorer.encode([(f"query {n % 4}", "", f"text {n // 2 if n < 2 else n} " * 5) for n in range(40)])
    for mode, sequences, shares in [("auto", often, True), ("auto", once, False), ("on", once, True)]:
        shared = SharedScorer(scorer, mode)
        assert any(batch.shares for batch in shared.plan(sequences, 300)) == shares
        assert ("works" in vars(shared)) == shares
    assert SharedScorer(scorer, "off").plan(often, 300) == plan_plain(often, 300)
    with pytest.raises(InputError, match="auto, on, off"):
        SharedScorer(scorer, "perhaps")


@given(groups=GROUPED, width=st.sampled_from([1, 8, 64]), budget=st.integers(1, 400))
@settings(max_examples=40)
def test_the_plan_never_costs_more(llama: LanguageModel, groups: list, width: int, budget: int) -> None:
    sequences = shared_scorer(llama, "plain", None).scorer.encode(pairs_of(groups))
    attention = Attention(width)
    rows = [row for batch in plan_shared(sequences, budget, attention) for row in batch.rows]
    for row in rows:
        members = [sequences[index] for index in row]
        assert len({tuple(member.ids[: member.shared_length]) for member in members}) == 1
        shared = members[0].shared_length
        cost = attention.cost(shared + sum(len(member) - shared for member in members))
        assert cost <= sum(attention.cost(len(member)) for member in members)


def test_many_queries_of_a_passage_become_rows_of_moderate_length(llama: LanguageModel) -> None:
    scorer = Scorer(llama, load_template("plain"))
    sequences = scorer.encode([(f"query {n} of a hundred", "", "a passage " * 12) for n in range(100)])
    plan, plain = plan_shared(sequences, 2048, Attention(32)), plan_plain(sequences, 2048)
    sizes = [len(row) for batch in plan for row in batch.rows]
    assert 1 < max(sizes) < 20 and max(sizes) - min(sizes) <= 3
    assert total_tokens(plan) < 0.6 * total_tokens(plain) and pays(plan, plain)


def test_a_switch_of_the_window_is_no_length() -> None:
    config = Qwen2Config(use_sliding_window=True, sliding_window=64, num_hidden_layers=2, max_window_layers=1)
    assert Attention.of(config).reach == 64
