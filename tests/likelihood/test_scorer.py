"""The reference scorer equals a plain forward pass of one pair at a time, whatever the batch."""

import json
import weakref
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from transformers.models.llama.modeling_llama import LlamaMLP

from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood import linears, processor
from qpeft_rerank.likelihood.cost import model_shape
from qpeft_rerank.likelihood.language_model import LanguageModel, pick_device, pick_precision
from qpeft_rerank.likelihood.quick import load_for_scoring
from qpeft_rerank.likelihood.scorer import Scorer, refuse_nan
from qpeft_rerank.likelihood.scores import Score
from qpeft_rerank.likelihood.sources import find_model
from qpeft_rerank.prompt import load_template
from tests.slow import slow_but

WORDS = st.text("abcdefgh .?\n", max_size=120)
# Gemma 2 caps its logits and Granite scales them: there the head is not a plain matrix product.
KINDS = {
    "smollm2": {"kind": "bytes", "tie_word_embeddings": True},
    "llama": {"kind": "llama"},
    "gemma3": {"kind": "gemma", "model_type": "gemma3_text", "sliding_window": 16},
    "gemma2": {"kind": "gemma", "model_type": "gemma2", "sliding_window": 16},
    "granite": {"kind": "bytes", "model_type": "granite", "logits_scaling": 3.0},
    "qwen3": {"kind": "bytes", "model_type": "qwen3"},
    "mixtral": {"kind": "llama", "model_type": "mixtral", "num_local_experts": 4},
    "gpt2": {"kind": "bytes", "model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256},
}


# Llama's layers once more, behind another start.
HERE = KINDS | {"glm": {"kind": "glm"}}


@pytest.fixture(scope="module", params=slow_but(HERE, "smollm2", "gemma3", "gpt2"))
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("model") / request.param
    return LanguageModel.load(str(tiny.save_model(folder, **HERE[request.param])), "float32", "cpu")


@cache
def plain_log_probs(model: LanguageModel, ids: tuple[int, ...], scored: int) -> torch.Tensor:
    """One pair alone, all logits, by transformers' own forward."""
    with torch.no_grad():
        logits = model.model(torch.tensor([ids])).logits[0]
    logs = logits.float().log_softmax(-1)
    return logs[range(len(ids) - scored - 1, len(ids) - 1), list(ids[-scored:])]


@pytest.mark.parametrize("prompt", ["plain", "qpeft"])
@given(pairs=st.lists(st.tuples(WORDS.filter(str.strip), WORDS, WORDS), min_size=1, max_size=6))
@settings(max_examples=15)
def test_any_batch_equals_one_pair_at_a_time(model: LanguageModel, prompt: str, pairs: list) -> None:
    scorer = Scorer(model, load_template(prompt))
    sequences = scorer.encode(pairs)
    for sequence, logs, score in zip(sequences, scorer.log_probs(sequences), scorer.score(sequences), strict=True):
        expected = plain_log_probs(model, tuple(sequence.ids), len(sequence.target))
        assert torch.allclose(logs, expected, atol=1e-4, rtol=0)
        assert score.total == pytest.approx(float(expected.sum()), abs=1e-4 * len(expected))
        assert score.tokens == len(expected)
        assert score.mean == pytest.approx(score.total / len(expected))


def test_bos_begins_the_sequence_where_the_model_wants_it(model: LanguageModel) -> None:
    sequence = Scorer(model, load_template("plain")).encode([("query", "", "text")])[0]
    wants = model.config.model_type in ("llama", "mixtral", "gemma2", "gemma3_text") and model.pieces.start == (1,)
    assert (sequence.ids[0] == 1) == wants


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return LanguageModel.load(str(tiny.save_model(tmp_path_factory.mktemp("llama"))), "float32", "cpu")


def test_the_model_has_no_gradients_of_its_own(llama: LanguageModel) -> None:
    assert not any(parameter.requires_grad for parameter in llama.model.parameters())
    assert not llama.model.training


class Held:
    """Stands for a tensor of a pass."""


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (torch.OutOfMemoryError, "no memory"),
        (RuntimeError, "MPS backend out of memory (MPS allocated: 9 GB)"),
        (RuntimeError, "Invalid buffer size: 20.25 GiB"),
        (RuntimeError, "DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=["gpu", "mps", "mps, one tensor", "cpu"],
)
def test_memory_running_out_halves_the_batch(
    llama: LanguageModel, monkeypatch: pytest.MonkeyPatch, kind: type, said: str
) -> None:
    scorer = Scorer(llama, load_template("plain"))
    sequences = scorer.encode([(f"query {n}", "", "text " * n) for n in range(7)])
    expected = scorer.score(sequences)
    original, sizes = scorer.log_probs, []
    held: list[weakref.ref] = []

    def scarce(batch):
        # What did not fit must be gone before less is tried.
        assert not any(each() for each in held)
        sizes.append(len(batch))
        if len(batch) > 2:
            tensor = Held()
            held.append(weakref.ref(tensor))
            raise kind(said)
        return original(batch)

    monkeypatch.setattr(scorer, "log_probs", scarce)
    assert [score.total for score in scorer.score(sequences)] == pytest.approx([s.total for s in expected], abs=1e-4)
    assert max(sizes) == 7 and sizes[-1] <= 2


def test_one_sequence_too_large_for_memory_gets_one_line(llama: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = Scorer(llama, load_template("plain"))

    def never(batch):
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(scorer, "log_probs", never)
    with pytest.raises(InputError, match="out of memory on one sequence"):
        scorer.score(scorer.encode([("a", "", "b")]))


def test_nan_is_refused_with_the_pair_named() -> None:
    with pytest.raises(InputError, match="topic 7, passage D3"):
        refuse_nan(Score(float("nan"), 3), "topic 7, passage D3")


def test_the_fingerprint_covers_all_that_a_score_depends_on(llama: LanguageModel, tmp_path: Path) -> None:
    plain = load_template("plain")
    same = Scorer(llama, plain).fingerprint
    other_weights = LanguageModel.load(str(tiny.save_model(tmp_path / "other", seed=1)), "float32", "cpu")
    half = LanguageModel.load(llama.source, "bfloat16", "cpu")
    prints = [
        same,
        Scorer(llama, load_template("qpeft")).fingerprint,
        Scorer(llama, plain, max_passage_tokens=5).fingerprint,
        Scorer(other_weights, plain).fingerprint,
        Scorer(half, plain).fingerprint,
    ]
    assert len(set(prints)) == len(prints)
    folder = tiny.save_model(tmp_path / "copy", seed=0)
    copied = LanguageModel.load(str(folder), "float32", "cpu")
    assert Scorer(copied, plain).fingerprint == same
    rules = folder / "tokenizer.json"
    rules.write_text(rules.read_text("utf-8") + "\n", "utf-8")
    assert Scorer(copied, plain).fingerprint != same


def test_bfloat16_is_near_float32(llama: LanguageModel) -> None:
    pairs = [("who wrote it", "", "Ada wrote it"), ("what", "", "a longer passage about a machine")]
    exact = Scorer(llama, load_template("plain"))
    rough = Scorer(LanguageModel.load(llama.source, "bfloat16", "cpu"), load_template("plain"))
    for one, other in zip(exact.score(exact.encode(pairs)), rough.score(rough.encode(pairs)), strict=True):
        assert one.mean == pytest.approx(other.mean, abs=0.1)


@pytest.mark.parametrize("settings", [{"model_type": "bert"}, {"model_type": "xlm-roberta"}])
def test_a_model_that_looks_ahead_is_refused(tmp_path: Path, settings: dict) -> None:
    with pytest.raises(InputError, match="no causal language model"):
        LanguageModel.load(str(tiny.save_model(tmp_path / "model", **settings)), "float32", "cpu")


def test_a_head_in_another_dtype_than_its_states(tmp_path: Path) -> None:
    """Mamba's states stay float32 where its weights are bfloat16."""
    folder = str(tiny.save_model(tmp_path / "model", model_type="mamba", state_size=4))
    pair = [("who", "", "Ada wrote it.")]
    exact, rough = (
        Scorer(LanguageModel.load(folder, dtype, "cpu"), load_template("plain")) for dtype in ("float32", "bfloat16")
    )
    assert exact.model.plain_head and not rough.model.plain_head
    assert rough.score(rough.encode(pair))[0].mean == pytest.approx(exact.score(exact.encode(pair))[0].mean, abs=0.1)


def test_layers_that_cannot_be_computed_get_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some releases of transformers have architectures that multiply by a layer's weights themselves, Mamba among them,
    which a layer that rounds its inputs does not expect.
    """

    def by_itself(layer: LlamaMLP, states: torch.Tensor) -> torch.Tensor:
        inner = layer.act_fn(layer.gate_proj(states)) * layer.up_proj(states)
        return torch.nn.functional.linear(inner, layer.down_proj.weight)

    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: True)
    monkeypatch.setattr(linears, "can_pack", lambda device: False)
    monkeypatch.setattr(LlamaMLP, "forward", by_itself)
    folder = tiny.save_model(tmp_path / "model")
    LanguageModel.load(str(folder), "float32", "cpu")
    with pytest.raises(InputError, match="cannot be computed in mixed"):
        LanguageModel.load(str(folder), "mixed", "cpu")


@pytest.mark.parametrize(("settings", "context"), [({}, 256), ({"model_type": "mpt", "max_seq_len": 64}, 64)])
def test_the_context_is_the_model_s(tmp_path: Path, settings: dict, context: int) -> None:
    folder = tiny.save_model(tmp_path / "model", **settings)
    if settings:  # which this architecture does not know
        config = json.loads((folder / "config.json").read_text())
        del config["max_position_embeddings"]
        (folder / "config.json").write_text(json.dumps(config))
    assert LanguageModel.load(str(folder), "float32", "cpu").max_tokens == context
    assert model_shape(find_model(str(folder))).max_tokens == context


def test_experts_that_a_token_does_not_pass_cost_nothing(tmp_path: Path) -> None:
    shapes = []
    for experts in (4, 64):
        folder = tiny.save_model(tmp_path / str(experts), model_type="mixtral", num_local_experts=experts)
        shapes.append(model_shape(find_model(str(folder))))
    # Only the router grows: a row of its matrix for each expert.
    assert shapes[1].body - shapes[0].body == 2 * 60 * 32


def test_devices_and_dtypes_that_do_not_exist_get_one_line() -> None:
    for name in ("gpu", "xpu", "meta", "vulkan:0"):
        with pytest.raises(InputError, match="give auto, cpu"):
            pick_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            pick_device("cuda:0")
    with pytest.raises(InputError, match="float32, mixed"):
        pick_precision("int3", torch.device("cpu"))


@pytest.mark.parametrize("load", [LanguageModel.load, load_for_scoring])
@pytest.mark.parametrize("damage", ["config.json", "model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff"])
def test_a_damaged_model_folder_gets_one_line(
    tmp_path: Path, damage: str, text: bytes, load: Callable[[str, str, str], object]
) -> None:
    folder = tiny.save_model(tmp_path / "model")
    (folder / damage).write_bytes(text)
    with pytest.raises(InputError) as caught:
        load(str(folder), "float32", "cpu")
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("settings", [{"hidden_size": "wide"}, {"num_attention_heads": 0}, {"vocab_size": -5}])
def test_a_configuration_that_cannot_be_gets_one_line(tmp_path: Path, settings: dict) -> None:
    folder = tiny.save_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | settings))
    for read in (load_for_scoring, lambda name: model_shape(find_model(name))):
        with pytest.raises(InputError, match="causal language model") as caught:
            read(str(folder))
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_model_that_computes_no_numbers_is_told_as_such(tmp_path: Path, dtype: str) -> None:
    folder = tiny.save_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"] *= 1e6 if dtype == "float16" else float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(InputError, match="not all finite numbers") as caught:
        LanguageModel.load(str(folder), dtype, "cpu")
    assert ("--dtype float32" in str(caught.value)) == (dtype == "float16")


def test_a_model_too_large_for_its_device_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "cache"))
    folder = str(tiny.save_model(tmp_path / "model"))

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2 GiB")

    for place in (torch.nn.Module, torch.Tensor):  # the quick way, known from the second time on, moves tensors
        with monkeypatch.context() as patch:
            patch.setattr(place, "to", full)
            with pytest.raises(InputError, match="does not fit into the memory of cpu in float32; take"):
                load_for_scoring(folder, "float32", "cpu")
        load_for_scoring(folder, "float32", "cpu")


def test_a_device_that_is_not_to_be_had_gets_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "cache"))
    folder = str(tiny.save_model(tmp_path / "model"))

    def busy(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCompile with")

    monkeypatch.setattr(torch.nn.Module, "to", busy)
    with pytest.raises(
        InputError, match=r"^cpu: cannot be used \(CUDA error: .* unavailable\); take another --device$"
    ):
        load_for_scoring(folder, "float32", "cpu")
