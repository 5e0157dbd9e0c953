"""Compiled layers give the scores of those that they were made of, whatever a batch's shape; or one line says why not."""

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import peft
import pytest
import tiny
import torch
from packing import packing

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.engines.local import LocalEngine
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood import causal_model, compiling, linears
from qpeft_rerank.likelihood.body import Body
from qpeft_rerank.likelihood.compile_scorers import compile_scorers
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.layer import Layer
from qpeft_rerank.likelihood.packed import Attended
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.prompt import load_template

PASSAGES = [("Ada", "Ada wrote the first program."), ("", "The bug was a moth in a relay, which a machine held fast.")]
QUERIES = ["who wrote it", "why?", "what was the first bug, and who found it"]
PAIRS = [(query, title, text) for query in QUERIES for title, text in PASSAGES]
# Batches of one row and of several, of one length, padded little and much.
BATCHES = [PAIRS, PAIRS[:1], PAIRS[:2], PAIRS[:1] * 3, [PAIRS[0], ("why?", "", "A moth. " * 9)], PAIRS[1:5]]

needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None or not Path(sysconfig.get_path("include"), "Python.h").exists(),
    reason="no C++ compiler, or no headers of Python, by which PyTorch compiles on a CPU",
)


@pytest.fixture(autouse=True)
def _afresh() -> Iterator[None]:
    """No test finds what another one compiled."""
    yield
    torch._dynamo.reset()


@pytest.fixture
def by_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of compiling but its last step, which makes machine code: that takes longest."""
    whole = torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda function, options=None, **given: whole(function, backend="aot_eager", **given)
    )


def alone(model: LanguageModel) -> Scorer:
    return Scorer(model, load_template("plain"))


def hinted(model: LanguageModel) -> Scorer:
    template = load_template("qpeft")
    return Scorer(model, template, create_adapter("qpeft-a", model, template, seed=42))


def tuned(model: LanguageModel) -> Scorer:
    layers = ["q_proj", "down_proj"]
    config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=layers, task_type="CAUSAL_LM")
    return Scorer(model, load_template("plain"), PeftAdapter.create(model, config, seed=1))


def both(folder: Path, make: Callable[[LanguageModel], Scorer], dtype: str = "float32") -> tuple[Scorer, Scorer]:
    """A scorer as it is, and one whose layers are compiled."""
    plain, quick = (make(LanguageModel.load(str(folder), dtype, "cpu")) for _ in range(2))
    graphs()
    compile_scorers([quick])
    return plain, quick


def logs_of(scorer: Scorer) -> torch.Tensor:
    """Of all batches, then of rows that share passages where the model allows it."""
    read = [torch.cat(scorer.log_probs(scorer.encode(pairs))) for pairs in BATCHES]
    sequences = scorer.encode(PAIRS)
    shared = SharedScorer(scorer)
    if shared.works:
        read += shared.log_probs([[sequences[at] for at in range(place, len(PAIRS), 2)] for place in range(2)])
    return torch.cat(read)


def graphs() -> int:
    """How many pieces of code were made since it was last asked."""
    made = int(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    torch._dynamo.utils.counters.clear()
    return made


@needs_compiler
@pytest.mark.slow
def test_scores_stay_and_batches_of_all_sizes_are_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In ``mixed``, whose rounding stays what it is: to the last step of compiling."""
    monkeypatch.setattr(linears, "can_pack", lambda device: False)
    folder = tiny.save_model(tmp_path / "model", model_type="qwen3", max_position_embeddings=1024)
    plain, quick = both(folder, alone, "mixed")
    assert graphs() > 0
    hints, quick_hints = hinted(plain.model), hinted(quick.model)  # which change embeddings alone
    torch.testing.assert_close(logs_of(quick), logs_of(plain), rtol=0, atol=1e-3)
    torch.testing.assert_close(logs_of(quick_hints), logs_of(hints), rtol=0, atol=1e-3)
    graphs()
    for scorer in (quick, quick_hints):
        for words in range(2, 90, 11):
            pairs = [("who wrote it", "", " ".join(["moth"] * (words + more))) for more in range(1 + words % 4)]
            scorer.log_probs(scorer.encode(pairs))
    assert graphs() == 0


@pytest.mark.slow
@pytest.mark.parametrize("packs", [False, pytest.param(True, marks=packing)], ids=["plain", "packed"])
def test_an_adapter_in_the_layers_is_compiled_too(
    tmp_path: Path, by_pieces: None, monkeypatch: pytest.MonkeyPatch, packs: bool
) -> None:
    """Also where it is off; oneDNN's layers are left out."""
    monkeypatch.setattr(linears, "can_pack", lambda device: packs)
    plain, quick = both(tiny.save_model(tmp_path / "model"), tuned)
    assert graphs() > 0
    torch.testing.assert_close(logs_of(quick), logs_of(plain), rtol=0, atol=1e-5)
    torch.testing.assert_close(logs_of(alone(quick.model)), logs_of(alone(plain.model)), rtol=0, atol=1e-5)


@packing
@pytest.mark.slow
def test_certifying_goes_to_float32_and_back(tmp_path: Path, by_pieces: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``--certify`` does with the one model that it has, an adapter in its layers."""
    monkeypatch.setattr(linears, "can_pack", lambda device: True)
    folder = tiny.save_model(tmp_path / "model")
    _, quick = both(folder, tuned, "mixed")
    exact = tuned(LanguageModel.load(str(folder), "float32", "cpu"))
    rough = logs_of(quick)
    with quick.model.in_float32():
        assert quick.model.body is not None
        torch.testing.assert_close(logs_of(quick), logs_of(exact), rtol=0, atol=1e-5)
    torch.testing.assert_close(logs_of(quick), rough, rtol=0, atol=0)
    assert not torch.allclose(rough, logs_of(exact), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [alone, tuned])
@pytest.mark.parametrize(("kind", "has_body"), [("gemma3_text", False), ("llama", True)])
def test_bfloat16(
    tmp_path: Path, by_pieces: None, make: Callable[[LanguageModel], Scorer], kind: str, has_body: bool
) -> None:
    """Through the layers of ``transformers``, and through ours."""
    folder = tiny.save_model(tmp_path / "model", model_type=kind, kind="gemma")
    plain, quick = both(folder, make, "bfloat16")
    assert (quick.model.body is not None) == has_body and graphs() > 0
    assert float((logs_of(quick) - logs_of(plain)).abs().max()) <= 0.1


@pytest.mark.parametrize("rows", [1, 3], ids=["packed", "table"])
@pytest.mark.parametrize("make", [alone, tuned])
def test_other_scores_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, make: Callable[[LanguageModel], Scorer]
) -> None:
    """Of whichever layout, with an adapter in the layers or without."""
    scorer = make(LanguageModel.load(str(tiny.save_model(tmp_path / "model")), "float32", "cpu"))
    last = scorer.hinter.body if make is tuned else scorer.model.body
    right = last._project

    def wrong(layer: Layer, states: torch.Tensor, *given: Any) -> Attended:
        made = right(layer, states, *given)
        return (made[0] + 1, *made[1:]) if len(states) == rows else made

    def compiled(body: Body) -> None:
        if body is last:
            body._project = wrong

    monkeypatch.setattr(Body, "compile", compiled)
    with pytest.raises(
        InputError, match=r"--compile: model gives other scores compiled, by up to .* nats; leave it out"
    ):
        compile_scorers([scorer])


@pytest.fixture
def scorer(tmp_path: Path) -> Scorer:
    return alone(LanguageModel.load(str(tiny.save_model(tmp_path / "model")), "float32", "cpu"))


def test_a_batch_that_cannot_be_compiled_is_one_line(scorer: Scorer, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer.model.compiled = True

    def fail(layer: object, states: torch.Tensor, seen: torch.Tensor) -> None:
        raise torch._dynamo.exc.BackendCompilerFailed(lambda: None, TypeError("mul expected 2 arguments, got 3"), None)

    monkeypatch.setattr(scorer.model.body, "_finish", fail)
    with pytest.raises(InputError, match=r"--compile: PyTorch cannot compile model here \(.*; leave it out"):
        scorer.score(scorer.encode(PAIRS))


def test_what_has_no_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="no list of layers"):
        compiling.compile_layers(torch.nn.Module(), False)


def test_keys_of_an_adapter_s_own_are_refused(scorer: Scorer) -> None:
    """They would be compiled layer by layer."""
    config = peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    prefixed = Scorer(scorer.model, scorer.template, PeftAdapter.create(scorer.model, config, seed=1))
    with pytest.raises(InputError, match="--compile: an adapter gives every layer keys of its own"):
        compile_scorers([scorer, prefixed])
    assert not scorer.model.compiled


def test_layers_of_other_kinds_are_compiled_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.save_model(tmp_path / "model", model_type="gpt2")
    model = LanguageModel.load(str(folder), "float32", "cpu")
    asked: list[torch.nn.Module] = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda layer, **settings: asked.append(layer))
    compile_scorers([alone(model)])
    assert asked == list(model.model.base_model.h)


def test_a_compiled_run_is_another_plan(scorer: Scorer) -> None:
    """As with other --batch-tokens: scores that are there stay, and no batch is half of each kind."""
    digests = []
    for scorer.model.compiled in (False, True):
        digests.append(LocalEngine(Methods([scorer]), 1024).run_digest([("1", "d")]))
    assert len(set(digests)) == 2


@pytest.mark.slow
def test_without_a_compiler_one_line_says_so(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    (tmp_path / "corpus.jsonl").write_text('{"id": "d", "contents": "Ada wrote it."}\n', "utf-8")
    (tmp_path / "topics.tsv").write_text("1\twho wrote it\n", "utf-8")
    (tmp_path / "first.trec").write_text("1 Q0 d 1 2.5 bm25\n", "utf-8")
    command = [sys.executable, "-m", "qpeft_rerank.rerank", "--model", str(folder), "--corpus", "corpus.jsonl"]
    command += ["--topics", "topics.tsv", "--run", "first.trec", "--output", "new.trec", "--compile", "--device", "cpu"]
    nowhere = {"CXX": str(tmp_path / "none"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "compiled")}
    found = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, **nowhere, "PYTHONPATH": str(Path(causal_model.__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 2, found.stderr
    last = found.stderr.splitlines()[-1]
    assert last.startswith("error: --compile: PyTorch cannot compile model here (") and "C++ compiler" in last
    assert "Traceback" not in found.stderr and not (tmp_path / "new.trec").exists()


def test_memory_that_runs_out_is_no_fault_of_the_compiler(monkeypatch: pytest.MonkeyPatch, scorer: Scorer) -> None:
    def full(body: Body) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(Body, "compile", full)
    with pytest.raises(InputError, match=r"^--compile: finds no memory on cpu beside model; leave it out$"):
        compile_scorers([scorer])
