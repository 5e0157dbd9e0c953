"""A model read from its files alone gives the whole one's scores to the last bit, and only where that was seen."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
import torch
from likelihood.test_body import ALL, PAIRS
from mapping import TOLD, resident

from qpeft_rerank import Reranker
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import save_adapter
from qpeft_rerank.likelihood import linears, processor, quick
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.quick import QuickModel, load_for_scoring
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from qpeft_rerank.prompt import load_template
from tests.slow import slow_but

# Mistral's window and GELU's curve are nothing that is read from a file.
QUICK = {"smollm2", "llama", "qwen2", "qwen3", "biased", "scaled", "untied", "glm"}
KINDS = {
    **ALL,
    "scaled": {
        "kind": "bytes",
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "dynamic": {"kind": "bytes", "rope_parameters": {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}},
    "untied": {"kind": "gemma", "tie_word_embeddings": False},
    "glm": {"kind": "glm"},
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("dtype", ["float32", "mixed"])
@pytest.mark.parametrize("name", slow_but(KINDS, "smollm2", "mistral", "glm", "scaled", "untied"))
def test_scores_and_tokens_are_the_whole_model_s(name: str, dtype: str, tmp_path: Path) -> None:
    folder = str(tiny.save_model(tmp_path / "model", **dict(KINDS[name])))
    whole, again = load_for_scoring(folder, dtype, "cpu"), load_for_scoring(folder, dtype, "cpu")
    assert type(whole) is LanguageModel
    assert isinstance(again, QuickModel) == (name in QUICK)
    one, other = (Scorer(model, load_template("plain")) for model in (whole, again))
    assert one.fingerprint == other.fingerprint
    sequences = one.encode(PAIRS)
    assert other.encode(PAIRS) == sequences
    assert torch.equal(torch.cat(one.log_probs(sequences)), torch.cat(other.log_probs(sequences)))
    if name in QUICK:
        rows = [[sequences[at] for at in range(place, len(PAIRS), 2)] for place in range(2)]
        found = [torch.cat(SharedScorer(scorer).log_probs(rows)) for scorer in (one, other)]
        assert torch.equal(*found)


@pytest.mark.parametrize("own", [True, False])
def test_so_it_is_on_processors_that_multiply_another_way(
    own: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linears, "can_pack", lambda device: False)
    monkeypatch.setattr(processor, "multiplies_bfloat16", lambda: own)
    for name in sorted(QUICK):
        test_scores_and_tokens_are_the_whole_model_s(name, "mixed", tmp_path / name)


@pytest.mark.parametrize("saved", ["bfloat16", "float16"])
def test_narrow_weights_are_widened_as_the_whole_model_s(saved: str, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder).to(getattr(torch, saved)).save_pretrained(folder)
    models = [load_for_scoring(str(folder), "float32", "cpu") for _ in range(2)]
    assert isinstance(models[1], QuickModel)
    one, other = (Scorer(model, load_template("plain")) for model in models)
    sequences = one.encode(PAIRS)
    assert torch.equal(torch.cat(one.log_probs(sequences)), torch.cat(other.log_probs(sequences)))


def test_other_weights_or_tokens_are_asked_anew(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    load_for_scoring(str(folder), "float32", "cpu")
    assert isinstance(load_for_scoring(str(folder), "mixed", "cpu"), QuickModel)
    tiny.save_model(folder, seed=1)
    assert type(load_for_scoring(str(folder), "float32", "cpu")) is LanguageModel
    assert isinstance(load_for_scoring(str(folder), "float32", "cpu"), QuickModel)
    rules = json.loads((folder / "tokenizer.json").read_text("utf-8"))
    rules["normalizer"] = {"type": "Lowercase"}
    (folder / "tokenizer.json").write_text(json.dumps(rules), "utf-8")
    assert type(load_for_scoring(str(folder), "float32", "cpu")) is LanguageModel


@pytest.mark.parametrize("text", ["", "[1]", '{"shape": {}}', '{"more": 1}'])
def test_a_damaged_note_is_made_anew(text: str, tmp_path: Path, cache: Path) -> None:
    folder = str(tiny.save_model(tmp_path / "model"))
    load_for_scoring(folder, "float32", "cpu")
    (note,) = (cache / "quick").iterdir()
    note.write_text(text, "utf-8")
    assert type(load_for_scoring(folder, "float32", "cpu")) is LanguageModel
    assert isinstance(load_for_scoring(folder, "float32", "cpu"), QuickModel)


@pytest.mark.parametrize("damage", [{"rules": "{"}, {"tied": False}])
def test_a_note_that_does_not_fit_is_made_anew(damage: dict[str, object], tmp_path: Path, cache: Path) -> None:
    folder = str(tiny.save_model(tmp_path / "model", tie_word_embeddings=True))
    load_for_scoring(folder, "float32", "cpu")
    (note,) = (cache / "quick").iterdir()
    note.write_text(json.dumps(json.loads(note.read_text("utf-8")) | damage), "utf-8")
    assert type(load_for_scoring(folder, "float32", "cpu")) is LanguageModel
    assert isinstance(load_for_scoring(folder, "float32", "cpu"), QuickModel)


@pytest.mark.parametrize("kind", ["qpeft-r", "qpeft-a", "soft-prompt"])
def test_adapters_give_the_same_scores(kind: str, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    model, template = LanguageModel.load(str(folder), "float32", "cpu"), load_template("qpeft")
    save_adapter(create_adapter(kind, model, template), model, template, tmp_path / "adapter")
    pairs = [(query, f"{title}. {text}") for query, title, text in PAIRS]
    found = []
    for expected in (LanguageModel, QuickModel):
        reranker = Reranker.from_pretrained(str(folder), str(tmp_path / "adapter"), device="cpu", dtype="float32")
        assert type(reranker.scorer.model) is expected
        found.append(reranker.score(pairs))
    assert found[0] == found[1]


@pytest.mark.parametrize("dtype", ["float32", "mixed"])
def test_no_part_of_the_file_stays_in_memory(dtype: str, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", vocab_size=100_000)
    load_for_scoring(str(folder), dtype, "cpu")
    model = load_for_scoring(str(folder), dtype, "cpu")
    assert isinstance(model, QuickModel)
    scorer, path = Scorer(model, load_template("plain")), folder / "model.safetensors"
    shared = SharedScorer(scorer, "on")
    sequences = scorer.encode(PAIRS)
    # Where products take the weights as they are, the head is read from the file.
    head = 0 if linears.can_pack(torch.device("cpu")) else model.embedding.weight.nbytes // 1024
    assert resident(path) < head + 1024
    for _ in range(2):
        assert int(model.embedding(torch.arange(0, 100_000, 8)).shape[0]) == 12_500
        assert not TOLD or resident(path) > 10_000
        scorer.log_probs(sequences)
        assert resident(path) < head + 1024
        shared.log_probs([[sequence] for sequence in sequences])
        assert resident(path) < head + 1024


@pytest.mark.slow
def test_scoring_needs_no_transformers_then(tmp_path: Path) -> None:
    folder = str(tiny.save_model(tmp_path / "model"))
    code = (
        "import sys; from qpeft_rerank import Reranker; "
        f"print(Reranker.from_pretrained({folder!r}, device='cpu').score([('who', 'Ada wrote it.')])); "
        "print('transformers' in sys.modules)"
    )
    said = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
        for _ in range(2)
    ]
    assert said[0][0] == said[1][0]
    assert [lines[1] for lines in said] == ["True", "False"]


def test_a_model_that_fits_but_once_is_used_and_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(tiny.save_model(tmp_path / "model"))

    def full(*given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(quick, "read_weights", full)
        assert type(load_for_scoring(folder, "float32", "cpu")) is LanguageModel
    assert type(load_for_scoring(folder, "float32", "cpu")) is LanguageModel
    assert type(load_for_scoring(folder, "float32", "cpu")) is QuickModel
