"""A body run as one function gives the scores of the model that it stands for, and no other model has one."""

from pathlib import Path

import pytest
import tiny
import torch
from likelihood.test_scorer import KINDS
from likelihood.test_shared import WIDE
from packing import packing
from torch import nn
from torch.nn import functional

from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood import body as bodies
from qpeft_rerank.likelihood import linears, operations
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.linears import ROWS, PackedLinear
from qpeft_rerank.likelihood.operations import causal, for_each_head, masked, normed
from qpeft_rerank.likelihood.precision import ROUNDING
from qpeft_rerank.likelihood.quick import note_of
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.prompt import load_template
from tests.slow import slow_but
from tests.threads import threads

ALL = {
    **KINDS,
    **WIDE,
    "qwen2": {"kind": "bytes", "model_type": "qwen2"},
    "biased": {"kind": "llama", "attention_bias": True, "mlp_bias": True},
    "gelu": {"kind": "bytes", "hidden_act": "gelu_pytorch_tanh"},
    # Which turns no positions in its fourth layer; with these weights that changes states by less than bfloat16 does.
    "smollm3": {"kind": "bytes", "model_type": "smollm3", "num_hidden_layers": 4, "initializer_range": 0.02},
    "half-turned": {"kind": "bytes", "model_type": "stablelm", "partial_rotary_factor": 0.5},
}
HAVE_ONE = {"smollm2", "llama", "mistral", "qwen2", "qwen3", "biased", "gelu"}
PASSAGES = [("Ada", "Ada wrote the first program."), ("", "The bug was a moth in a relay, which a machine held fast.")]
QUERIES = ["who wrote it", "why?", "what was the first bug, and who found it"]
PAIRS = [(query, title, text) for query in QUERIES for title, text in PASSAGES]


@pytest.fixture(scope="module", params=slow_but(ALL, "smollm2", "llama", "gemma3", "half-turned"))
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    return request.param, tiny.save_model(tmp_path_factory.mktemp("model") / request.param, **dict(ALL[request.param]))


def scorer(folder: Path, dtype: str = "float32", stock: bool = False) -> Scorer:
    return Scorer(LanguageModel.load(str(folder), dtype, "cpu", stock), load_template("plain"))


def test_scores_are_the_stock_model_s(found: tuple[str, Path]) -> None:
    name, folder = found
    stock, quick = scorer(folder, stock=True), scorer(folder)
    assert stock.model.body is None
    assert (quick.model.body is not None) == (name in HAVE_ONE)
    sequences = stock.encode(PAIRS)
    expected = torch.cat(stock.log_probs(sequences))
    assert torch.allclose(torch.cat(quick.log_probs(sequences)), expected, atol=1e-4, rtol=0)
    if quick.model.body is not None:
        with torch.inference_mode():
            ids = torch.tensor([sequences[0].ids])
            assert len(quick.model.body(quick.model.embedding(ids), torch.tensor([[0, 3]]))) == 1
        rows = [[sequences[at] for at in range(place, len(PAIRS), 2)] for place in range(2)]
        shared = torch.cat(SharedScorer(quick).log_probs(rows))
        assert torch.allclose(shared, torch.cat(stock.log_probs([s for row in rows for s in row])), atol=1e-4, rtol=0)


def test_mixed_has_a_body_too(found: tuple[str, Path]) -> None:
    name, folder = found
    quick = scorer(folder, "mixed")
    assert (quick.model.body is not None) == (name in HAVE_ONE)
    sequences = quick.encode(PAIRS)
    for exact, logs in zip(scorer(folder, stock=True).log_probs(sequences), quick.log_probs(sequences), strict=True):
        assert float((exact - logs).abs().mean()) < 0.1  # of random weights; experts switch at a rounding


HALVES = ["bfloat16", "float16"]


def errors(folder: Path, dtype: str) -> tuple[float, float, bool]:
    """Of the model's own layers and of ours, nats a token beside float32; and whether there are ours."""
    exact, stock, quick = scorer(folder, stock=True), scorer(folder, dtype, stock=True), scorer(folder, dtype)
    sequences = exact.encode(PAIRS)
    expected, rough, logs = (torch.cat(of.log_probs(sequences)) for of in (exact, stock, quick))
    assert {parameter.dtype for parameter in quick.model.model.parameters()} == {getattr(torch, dtype)}
    own, ours = ((found - expected).abs().mean() for found in (rough, logs))
    return float(own), float(ours), quick.model.body is not None


@pytest.mark.parametrize("dtype", HALVES)
def test_half_precision_has_a_body_too(found: tuple[str, Path], dtype: str) -> None:
    name, folder = found
    own, ours, has_body = errors(folder, dtype)
    assert has_body == (name in HAVE_ONE)
    assert 0 < ours <= 2 * own  # two layers of random weights: chance decides which rounds more


@pytest.mark.parametrize("dtype", HALVES)
def test_float32_states_round_less(tmp_path: Path, dtype: str) -> None:
    """Where there are as many layers as models have."""
    settings = {"num_hidden_layers": 16, "hidden_size": 64, "initializer_range": 0.02}
    own, ours, has_body = errors(tiny.save_model(tmp_path / "model", **settings), dtype)
    assert has_body and 0 < ours <= 0.9 * own


@packing
def test_packed_layers_in_mixed_have_a_body_too(found: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    name, folder = found
    monkeypatch.setattr(linears, "can_pack", lambda device: True)
    quick = scorer(folder, "mixed")
    assert (quick.model.body is not None) == (name in HAVE_ONE)
    packed = [layer for layer in quick.model.model.modules() if isinstance(layer, PackedLinear)]
    assert not any(layer.plain or layer.products != torch.bfloat16 for layer in packed)


def test_many_rests_attend_in_groups(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", max_position_embeddings=1024)
    stock, quick = scorer(folder, stock=True), scorer(folder)
    row = stock.encode([(f"what is {place} in words of many letters", "Ada", "Ada wrote it.") for place in range(20)])
    assert torch.allclose(
        torch.cat(SharedScorer(quick).log_probs([row])), torch.cat(stock.log_probs(row)), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("dtype", ["float32", "mixed", "bfloat16"])
@pytest.mark.parametrize("kind", [{}, {"model_type": "qwen3", "num_key_value_heads": 4}], ids=["grouped", "qwen3"])
def test_as_a_gpu_reads_rows(tmp_path: Path, dtype: str, kind: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """All rows attend in one call a layer, whatever they hold, and have the scores that they have row by row."""
    quick = scorer(tiny.save_model(tmp_path / "model", max_position_embeddings=1024, **kind), dtype)
    shared = SharedScorer(quick)
    sequences = quick.encode([(f"what is {place}", *texts) for texts in PASSAGES for place in range(9)])
    rows = [sequences[:9], sequences[9:14], sequences[14:]]
    by_row = torch.cat([*shared.log_probs(rows), *quick.log_probs(sequences)])
    calls: list[torch.Size] = []
    attention = functional.scaled_dot_product_attention

    def counted(queries: torch.Tensor, *given: torch.Tensor, **how: object) -> torch.Tensor:
        calls.append(queries.shape)
        return attention(queries, *given, **how)

    monkeypatch.setattr(bodies, "row_by_row", lambda device: False)
    monkeypatch.setattr(operations, "_takes_groups", lambda queries: False)
    monkeypatch.setattr(functional, "scaled_dot_product_attention", counted)
    quick.model.forget()
    at_once = torch.cat(shared.log_probs(rows))
    # The prompt's first words, then all three rows.
    assert [shape[0] for shape in calls] == [1, 1, 3, 3]
    calls.clear()
    at_once = torch.cat([at_once, *quick.log_probs(sequences)])
    assert [shape[0] for shape in calls] == [18, 18]
    torch.testing.assert_close(at_once, by_row, rtol=0, atol=ROUNDING[dtype])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_as_a_gpu_has_them(dtype: torch.dtype) -> None:
    states, norm = 3 * torch.randn(2, 5, 16), nn.RMSNorm(16, eps=1e-3)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, 16))
        norm.to(dtype)
        fused = functional.rms_norm(states, (16,), norm.weight.float(), norm.eps)
        torch.testing.assert_close(normed(states, norm), fused)
        elsewhere = normed(states.to("meta"), norm.to("meta"))  # which no GPU is needed for
    assert (elsewhere.shape, elsewhere.dtype) == (fused.shape, torch.float32)


def test_grouped_heads_as_a_gpu_has_them() -> None:
    queries, keys, values = (torch.randn(2, heads, 7, 8) for heads in (6, 2, 2))
    grouped = causal(queries, keys, values, 0.3)
    torch.testing.assert_close(causal(queries, *for_each_head(queries, keys, values), 0.3), grouped)
    seen = torch.full((2, 1, 7, 7), -torch.inf).triu(1)
    torch.testing.assert_close(masked(queries, keys, values, seen, 0.3), grouped)
    assert causal(*(of.to("meta") for of in (queries, keys, values)), 0.3).shape == grouped.shape


def test_beyond_its_window_the_model_reads_itself(tmp_path: Path) -> None:
    quick = scorer(tiny.save_model(tmp_path / "model", model_type="mistral", sliding_window=60))
    short, long = quick.encode([("why", "", "A moth."), ("why", "", "A moth in a relay. " * 12)])
    assert len(short) <= 60 < len(long)
    assert not quick.model.quick(len(short), {})  # gradients are on
    with torch.inference_mode():
        assert quick.model.quick(len(short), {})
        assert not quick.model.quick(len(long), {})
        assert not quick.model.quick(len(short), {"past_key_values": None})


def test_memory_that_runs_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the same model would compute in one way or another."""

    def full(body: bodies.Body) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory")

    folder = tiny.save_model(tmp_path / "model")
    monkeypatch.setattr(bodies.Body, "agrees", full)
    with pytest.raises(InputError, match="does not fit into the memory of cpu in bfloat16"):
        LanguageModel.load(str(folder), "bfloat16", "cpu")


LONG = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
LONGROPE = LONG | {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0, 4.0, 8.0, 16.0]}
YARN = LONG | {"rope_type": "yarn", "llama_4_scaling_beta": 0.1, "beta_fast": 32.0, "beta_slow": 1.0}


@pytest.mark.parametrize(
    "settings",
    [
        {"model_type": "phi3", "original_max_position_embeddings": 64, "rope_parameters": LONGROPE},
        {"rope_parameters": LONGROPE},
        {"model_type": "ministral3", "rope_parameters": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
    ],
    ids=["phi3", "llama", "ministral3"],
)
def test_what_changes_with_length_is_the_model_s_own(tmp_path: Path, settings: dict) -> None:
    """On both sides of the context that the model was first trained with, in one batch."""
    folder = tiny.save_model(tmp_path / "model", sliding_window=None, **settings)
    pairs = [("who wrote it", "", "Ada. "), ("why", "", "A moth. " * 9), ("who wrote it", "", "A moth. " * 9)]
    quick = scorer(folder)
    sequences = quick.encode(pairs)
    lengths = sorted(map(len, sequences))
    assert lengths[0] < 64 < lengths[1]
    # A model of its own for each, because angles may stay those of the longest sequence that it has read.
    expected = torch.cat([scorer(folder, stock=True).log_probs([sequence])[0] for sequence in sequences])
    assert torch.allclose(torch.cat(quick.log_probs(sequences)), expected, atol=1e-4, rtol=0)
    shared = SharedScorer(quick, "on")
    assert not any(batch.shares for batch in shared.plan(sequences, 1024))
    assert note_of(quick.model) is None


def test_gradients_go_through_the_model_s_own_layers(tmp_path: Path) -> None:
    quick = scorer(tiny.save_model(tmp_path / "model"))
    gate = torch.ones((), requires_grad=True)
    logs = quick.model.target_log_probs(quick.encode(PAIRS), lambda sequences, ids, embedded: embedded * gate)
    logs.sum().backward()
    assert gate.grad is not None and float(gate.grad) != 0


@pytest.mark.parametrize("prompt", ["plain", "qpeft"])
def test_the_prompt_s_first_words_are_read_once(tmp_path: Path, prompt: str) -> None:
    model = LanguageModel.load(str(tiny.save_model(tmp_path / "model")), "float32", "cpu")
    quick = Scorer(model, load_template(prompt))
    sequences = quick.encode(PAIRS)
    lead = sequences[0].prompt_length
    assert lead > 1
    read: list[int] = []
    layer = model.model.base_model.layers[0].self_attn.q_proj
    layer.register_forward_hook(lambda module, inputs, output: read.append(inputs[0].shape[:-1].numel()))
    filled = ROWS if isinstance(layer, PackedLinear) else 1

    def rows(tokens: int) -> int:
        return -(-tokens // filled) * filled

    logs = [torch.cat(quick.log_probs(sequences)) for _ in range(2)]
    own = sum(len(sequence) - lead for sequence in sequences)
    assert read == [rows(lead), rows(own), rows(own)]
    torch.testing.assert_close(logs[0], logs[1], rtol=0, atol=0)
    # By each number of threads, or how a score rounds would depend on what was read before it.
    read.clear()
    for count in (1, 2, 2):
        with threads(count):
            quick.log_probs(sequences)
    before = read.index(rows(own))  # the thread may have had one before
    assert read[before:] == [rows(own), rows(lead), rows(own), rows(own)]
    read.clear()
    # Rows that begin with other words, and one that begins with the query, still get their own scores.
    changed = quick.model.target_log_probs
    with torch.inference_mode():
        twisted = changed(sequences, lambda rows, ids, embedded: embedded + torch.eye(len(rows))[:, :1, None])
        alone = [
            changed([one], lambda rows, ids, embedded, at=at: embedded + float(at == 0))
            for at, one in enumerate(sequences)
        ]
    assert read[0] == rows(sum(map(len, sequences)))
    torch.testing.assert_close(twisted, torch.cat(alone), rtol=0, atol=1e-4)
