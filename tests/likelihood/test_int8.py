"""8-bit weights: near the scores of the same dtype, half the memory, one clear line without the library."""

import sys
from pathlib import Path

import pytest
import tiny
import torch

from qpeft_rerank import rerank
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.prompt import load_template

QUERIES = ["who wrote it", "why?", "what was the first bug, and who found it"]
PAIRS = [(query, "Ada", text) for query in QUERIES for text in ("Ada wrote the first program.", "The bug was a moth.")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "tiny")


def scorer(folder: Path, dtype: str) -> Scorer:
    return Scorer(LanguageModel.load(str(folder), dtype, "cpu"), load_template("plain"))


def test_scores_are_near_and_other_than_bfloat16_s(folder: Path) -> None:
    pytest.importorskip("torchao")
    exact, half, small = (scorer(folder, dtype) for dtype in ("float32", "bfloat16", "int8"))
    assert len({made.fingerprint for made in (exact, half, small)}) == 3
    sequences = exact.encode(PAIRS)
    found = {made: torch.cat(made.log_probs(sequences)) for made in (exact, half, small)}
    assert float((found[small] - found[exact]).abs().mean()) < 0.1
    assert not torch.equal(found[small], found[half])
    rows = [[sequences[at] for at in range(place, len(PAIRS), 2)] for place in range(2)]
    apart = torch.cat(small.log_probs([sequence for row in rows for sequence in row]))
    assert float((torch.cat(SharedScorer(small).log_probs(rows)) - apart).abs().max()) < 0.1


def test_weights_take_a_byte_and_the_head_stays(folder: Path) -> None:
    quantized = pytest.importorskip("torchao.quantization").Int8Tensor
    model = scorer(folder, "int8").model
    kept = [layer.weight for layer in model.model.base_model.modules() if isinstance(layer, torch.nn.Linear)]
    assert kept and all(isinstance(weight, quantized) and weight.qdata.dtype == torch.int8 for weight in kept)
    assert type(model.model.get_output_embeddings().weight) is torch.nn.Parameter
    assert model.embedding.weight.dtype == torch.bfloat16


def test_experts_stay_as_they_are(tmp_path: Path) -> None:
    quantized = pytest.importorskip("torchao.quantization").Int8Tensor
    mixture = tiny.save_model(tmp_path / "model", model_type="mixtral", num_local_experts=4)
    layer = LanguageModel.load(str(mixture), "int8", "cpu").model.model.layers[0]
    assert isinstance(layer.self_attn.q_proj.weight, quantized)
    assert type(layer.mlp.experts.down_proj) is torch.nn.Parameter


def test_gradients_pass(folder: Path) -> None:
    pytest.importorskip("torchao")
    made = scorer(folder, "int8")
    gate = torch.ones((), requires_grad=True)
    logs = made.model.target_log_probs(made.encode(PAIRS), lambda sequences, ids, embedded: embedded * gate)
    logs.sum().backward()
    assert gate.grad is not None and float(gate.grad) != 0


def test_without_torchao(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(InputError, match=r"--dtype int8: needs torchao .*pip install qpeft_rerank\[int8\]"):
        scorer(folder, "int8")


def test_the_command_takes_it(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("torchao")
    (tmp_path / "corpus.jsonl").write_text('{"id": "a", "contents": "a moth"}\n{"id": "b", "contents": "a relay"}\n')
    (tmp_path / "topics.tsv").write_text("1\twhat was the bug\n")
    (tmp_path / "run.trec").write_text("1 Q0 a 1 2 x\n1 Q0 b 2 1 x\n")
    words = ["--corpus", "corpus.jsonl", "--topics", "topics.tsv", "--run", "run.trec", "--output", "out.trec"]
    words = [word if word.startswith("--") else str(tmp_path / word) for word in words]
    assert rerank.main([*words, "--model", str(folder), "--dtype", "int8", "--device", "cpu"]) == 0
    assert len((tmp_path / "out.trec").read_text().splitlines()) == 2
