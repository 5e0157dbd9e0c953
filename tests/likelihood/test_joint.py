"""Several methods in one reading of a passage: each has the scores that it has alone."""

from dataclasses import replace

import peft
import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from likelihood.test_scorer import KINDS
from likelihood.test_shared import GROUPED, WIDE, pairs_of

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.sharing import total_tokens
from qpeft_rerank.prompt import load_template
from qpeft_rerank.prompt.segments import Segment, Sequence, common_length
from tests.slow import slow_but

# The last one's window is shorter than any prompt, so it never shares.
MODELS = {
    "llama": KINDS["llama"],
    "gpt2": KINDS["gpt2"],
    "gemma3-wide": WIDE["gemma3-wide"],
    "gemma3": KINDS["gemma3"],
}
LAYERS = {"gpt2": ["c_attn"]}
PAIRS = [
    (query, "Ada", f"text number {place} of Ada Lovelace, the first to write a program")
    for query in ("who wrote it", "what is the first")
    for place in range(5)
]


@pytest.fixture(scope="module", params=slow_but(MODELS, "llama"))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def model(kind: str, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tiny.save_model(tmp_path_factory.mktemp("model") / kind, **MODELS[kind])
    return LanguageModel.load(str(folder), "float32", "cpu")


def trained(name: str, model: LanguageModel, prompt: str):
    """An adapter whose hints are nobody else's."""
    made = create_adapter(name, model, load_template(prompt))
    made.cover(range(100))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(name))))
    return made


@pytest.fixture(scope="module")
def methods(model: LanguageModel, kind: str) -> Methods:
    """Two adapters, the model alone, and an adapter in the model's layers."""
    hinters = [trained("qpeft-a", model, "plain"), None, trained("qpeft-r", model, "plain")]
    layers = LAYERS.get(kind, ["q_proj", "v_proj"])
    # So strong that no pair's score is near the model's own by chance.
    config = peft.LoraConfig(r=4, lora_alpha=32, init_lora_weights=False, target_modules=layers, task_type="CAUSAL_LM")
    hinters.append(PeftAdapter.create(model, config))
    return Methods([Scorer(model, load_template("plain"), hinter) for hinter in hinters], "on")


def scored(methods: Methods, pairs: list, budget: int) -> list[list[float]]:
    """Each method's scores of the pairs, from the joint plan."""
    sequences = methods.encode((owner, pair) for owner in range(len(methods.scorers)) for pair in pairs)
    plan = methods.plan(sequences, budget)
    assert sorted(index for batch in plan for index in batch.indices) == list(range(len(sequences)))
    found = {}
    for batch in plan:
        found.update(zip(batch.indices, (score.total for score in methods.score(batch, sequences)), strict=True))
    return [[found[owner * len(pairs) + at] for at in range(len(pairs))] for owner in range(len(methods.scorers))]


def assert_each_as_alone(methods: Methods, pairs: list, budget: int) -> None:
    for scorer, found in zip(methods.scorers, scored(methods, pairs, budget), strict=True):
        for pair, total in zip(pairs, found, strict=True):
            alone = scorer.score(scorer.encode([pair]))[0]
            assert total == pytest.approx(alone.total, abs=1e-4 * alone.tokens)


@given(groups=GROUPED, budget=st.sampled_from([1, 90, 2048]))
@settings(max_examples=10)
def test_any_grouping_gives_each_method_its_own_scores(methods: Methods, groups: list, budget: int) -> None:
    assert_each_as_alone(methods, pairs_of(groups), budget)


def test_methods_are_told_apart_and_read_together(methods: Methods, kind: str) -> None:
    found = scored(methods, PAIRS, 2048)
    for one in range(len(found)):
        for other in range(one):
            assert min(abs(a - b) for a, b in zip(found[one], found[other], strict=True)) > 1e-2
    together = [{0, 1, 2}, {3}] if kind != "gemma3" else [{0}, {1}, {2}, {3}]
    assert [owners for owners, _ in methods.teams] == together
    if kind == "gemma3":
        return
    once = PAIRS[:5]  # no passage twice: there is nothing to share but between methods
    sequences = methods.encode((owner, pair) for owner in range(4) for pair in once)
    plan = methods.plan(sequences, 2048)
    assert {2, 3} & {len({sequences[index].owner for index in row}) for batch in plan for row in batch.rows}
    alone = [[sequence for sequence in sequences if sequence.owner == owner] for owner in range(4)]
    apart = [shared.plan(own, 2048) for shared, own in zip(methods.apart, alone, strict=True)]
    assert total_tokens(plan) < 0.9 * sum(map(total_tokens, apart))


def test_an_adapter_in_the_layers_changes_no_other_method(methods: Methods) -> None:
    clean = LanguageModel.load(methods.scorers[1].model.source, "float32", "cpu")
    alone = Scorer(clean, load_template("plain"))
    sequences = alone.encode(PAIRS)
    for found, expected in zip(methods.scorers[1].log_probs(sequences), alone.log_probs(sequences), strict=True):
        assert torch.equal(found, expected)


def test_one_method_alone_is_planned_as_ever(methods: Methods) -> None:
    one = Methods([methods.scorers[0]], "auto")
    sequences = one.encode((0, pair) for pair in PAIRS)
    assert sequences == methods.scorers[0].encode(PAIRS)
    assert one.plan(sequences, 300) == one.apart[0].plan(sequences, 300)


def test_sharing_switched_off_reads_each_method_by_itself(methods: Methods) -> None:
    off = Methods(methods.scorers, "off")
    assert [owners for owners, _ in off.teams] == [{0}, {1}, {2}, {3}]
    assert_each_as_alone(off, PAIRS[:3], 300)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return LanguageModel.load(str(tiny.save_model(tmp_path_factory.mktemp("llama"), "llama")), "float32", "cpu")


def test_vectors_before_the_passage_that_differ_keep_methods_apart(llama: LanguageModel) -> None:
    template = load_template("qpeft")
    hinters = [None, trained("soft-prompt", llama, "qpeft"), trained("qpeft-a", llama, "qpeft")]
    methods = Methods([Scorer(llama, template, hinter) for hinter in hinters], "on")
    assert [owners for owners, _ in methods.teams] == [{0, 2}, {1}]
    assert_each_as_alone(methods, PAIRS, 300)


def test_virtual_tokens_and_other_models_keep_methods_apart(llama: LanguageModel) -> None:
    other = LanguageModel.load(llama.source, "float32", "cpu")
    config = peft.PromptTuningConfig(num_virtual_tokens=5, task_type="CAUSAL_LM")
    plain = load_template("plain")
    made = [Scorer(llama, plain), Scorer(llama, plain, PeftAdapter.create(llama, config)), Scorer(other, plain)]
    methods = Methods(made, "on")
    assert [owners for owners, _ in methods.teams] == [{0}, {1}, {2}]
    assert_each_as_alone(methods, PAIRS[:4], 300)


def test_another_prompt_has_rows_of_its_own(llama: LanguageModel) -> None:
    methods = Methods([Scorer(llama, load_template(name)) for name in ("plain", "qpeft")], "on")
    assert [owners for owners, _ in methods.teams] == [{0}, {1}]
    sequences = methods.encode((owner, pair) for owner in range(2) for pair in PAIRS)
    rows = [row for batch in methods.plan(sequences, 2048) for row in batch.rows]
    assert max(map(len, rows)) == 2
    assert all(len({sequences[index].owner for index in row}) == 1 for row in rows)
    assert_each_as_alone(methods, PAIRS, 2048)


def test_a_passage_cut_further_for_one_method_is_read_by_itself(llama: LanguageModel) -> None:
    hinters = [trained("qpeft-a", llama, "plain"), None]
    methods = Methods([Scorer(llama, load_template("plain"), hinter) for hinter in hinters], "on")
    pairs = [("who wrote the first program", "", "word " * 300), *PAIRS]
    sequences = methods.encode((owner, pair) for owner in range(2) for pair in pairs)
    assert sequences[0].truncated and sequences[0].passage_length < sequences[len(pairs)].passage_length
    assert_each_as_alone(methods, pairs, 2048)


@given(st.lists(st.tuples(st.lists(st.integers(0, 2), max_size=8), st.booleans()), min_size=1, max_size=4))
def test_what_sequences_have_in_common(made: list) -> None:
    sequences = [
        Sequence(
            (Segment("passage", tuple(ids)), Segment("hints" if hints else "question", (1, 1)), Segment("target", (2,)))
        )
        for ids, hints in made
    ]
    begins = [sequence.ids[: sequence.shared_length] for sequence in sequences]
    length = common_length(sequences)
    assert all(begin[:length] == begins[0][:length] for begin in begins)
    longer = {tuple(begin[: length + 1]) for begin in begins}
    assert len(longer) > 1 or length == min(map(len, begins))
    assert common_length([replace(sequences[0], owner=1), *sequences]) == length
