"""Models that are not whole, do not fit, or want code of their own, or other inputs than tokens."""

import builtins
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer
from transformers.models.llama.modeling_llama import LlamaMLP

from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.cost import model_shape
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.quick import load_for_scoring
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.sources import find_model
from qpeft_rerank.prompt import load_template
from tests.refusal import refusal

LOADS = pytest.mark.parametrize("load", [LanguageModel.load, load_for_scoring])


@LOADS
def test_an_embedding_model_has_no_head(load: Callable[..., object], tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    AutoModel.from_pretrained(folder).save_pretrained(folder)
    assert "lack lm_head.weight, which would be random" in refusal(load, str(folder), "float32", "cpu")


@LOADS
def test_a_folder_of_the_home_folder(
    load: Callable[..., object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.save_model(tmp_path / "model")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_model("~/model").folder == folder
    assert load("~/model", "float32", "cpu")
    assert "did you mean" in refusal(load, "~/modell")


def test_what_a_file_lacks_is_counted(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    for name in ("model.layers.1.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"):
        del weights[name]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "lack model.layers.0.mlp.up_proj.weight and 1 more" in refusal(LanguageModel.load, str(folder))


def test_other_shapes_are_told(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["lm_head.weight"] = weights["lm_head.weight"][:500].clone()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert "lm_head.weight has the shape (500, 32) in the file, but (512, 32)" in refusal(
        LanguageModel.load, str(folder)
    )


@pytest.mark.parametrize("model_type", ["qwen2", "gemma"])
def test_a_tokenizer_without_files_knows_no_words(model_type: str, tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", model_type=model_type)
    for path in folder.glob("token*"):
        path.unlink()
    for read in (LanguageModel.load, lambda name: model_shape(find_model(name))):
        assert "its tokenizer has no words" in refusal(read, str(folder))


def test_code_of_a_model_s_own_is_neither_run_nor_asked_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking would take the lines of a run that comes from stdin for answers."""
    monkeypatch.setattr(builtins, "input", lambda prompt="": pytest.fail("asks on stdin"))
    folder = tiny.save_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "own", "auto_map": own}))
    for read in (LanguageModel.load, load_for_scoring, lambda name: model_shape(find_model(name))):
        assert "code of its own, which is not run" in refusal(read, str(folder))


def test_code_beside_a_known_architecture_is_not_needed(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    own = {"AutoConfig": "configuration_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnForCausalLM"}
    (folder / "config.json").write_text(json.dumps(config | {"auto_map": own}))
    assert LanguageModel.load(str(folder), "float32", "cpu").max_tokens == 256


@pytest.mark.parametrize("pair", [("who", "", "Ada [NEW] wrote it"), ("who [NEW]", "", "Ada")])
def test_a_token_that_the_model_was_not_given(pair: tuple[str, str, str], tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"[{number}]" for number in range(512 - len(tokenizer))] + ["[NEW]"])
    tokenizer.save_pretrained(folder)
    for load in (LanguageModel.load, load_for_scoring, load_for_scoring):
        scorer = Scorer(load(str(folder), "float32", "cpu"), load_template("plain"))
        assert scorer.score(scorer.encode([("who [0]", "", "Ada")]))
        assert "no embedding for '[NEW]'" in refusal(scorer.encode, [pair])
    pieces = model_shape(find_model(str(folder))).pieces
    assert "no embedding for '[NEW]'" in refusal(pieces.encode, [" ".join(pair)])


@pytest.mark.parametrize("calls", [0, 2])
def test_memory_that_runs_out_on_the_first_tokens_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    """Wherever it does: it says nothing of what the model computes."""
    compute, left = LlamaMLP.forward, [None] * calls * 2

    def forward(layer: LlamaMLP, states: torch.Tensor) -> torch.Tensor:
        if not left:
            raise torch.OutOfMemoryError("CUDA out of memory")
        left.pop()
        return compute(layer, states)

    monkeypatch.setattr(LlamaMLP, "forward", forward)
    with pytest.raises(InputError, match="does not fit into the memory"):
        LanguageModel.load(str(tiny.save_model(tmp_path / "model")), "float32", "cpu")


def test_a_model_that_wants_more_than_tokens_gets_one_line(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", model_type="xmod", is_decoder=True)
    with pytest.raises(InputError, match=r"cannot be computed in float32 \(Input language unknown"):
        LanguageModel.load(str(folder), "float32", "cpu")
