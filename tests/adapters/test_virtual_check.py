"""Prefix tuning is refused at once on models that take no keys and values, or go on without them."""

import peft
import pytest
import tiny
import torch

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.store import load_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
CONFIGS = {
    "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM"),
    "prefix-mlp": lambda: peft.PrefixTuningConfig(
        num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=16, task_type="CAUSAL_LM"
    ),
}
WITHOUT_KEYS = {
    "mamba": {"state_size": 4},
    "falcon_h1": {},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "rwkv": {},
}


def loaded(folder, kind, **settings):
    return LanguageModel.load(str(tiny.save_model(folder / kind, model_type=kind, **settings)), "float32", "cpu")


@pytest.mark.parametrize("method", CONFIGS)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.slow if kind == "falcon_h1" else ()) for kind in WITHOUT_KEYS]
)
def test_a_model_without_keys_is_refused(kind, method, tmp_path):
    model = loaded(tmp_path, kind, **WITHOUT_KEYS[kind])
    unheeded, failed = f"changes no score of {kind}", f"PREFIX_TUNING cannot be computed on .*{kind}: "
    # Mamba of transformers 5.8 goes on without the keys that later ones fail at.
    said = {"rwkv": unheeded, "mamba": f"{unheeded}|{failed}"}.get(kind, failed)
    with pytest.raises(InputError, match=said):
        PeftAdapter.create(model, CONFIGS[method]())


def test_a_saved_one_is_refused_as_well(tmp_path):
    model = loaded(tmp_path, "lfm2", **WITHOUT_KEYS["lfm2"])
    peft.get_peft_model(model.model, CONFIGS["prefix"]()).save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match="PREFIX_TUNING cannot be computed on"):
        load_adapter(str(tmp_path / "saved"), LanguageModel.load(str(tmp_path / "lfm2"), "float32", "cpu"))


@pytest.mark.parametrize("method", CONFIGS)
@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_the_question_leaves_no_trace(kind, method, tmp_path, monkeypatch):
    model = loaded(tmp_path, kind)
    asked = PeftAdapter.create(model, CONFIGS[method](), seed=4)
    monkeypatch.setattr("qpeft_rerank.adapters.peft_bridge.refuse_virtual", lambda *given: None)
    plain = PeftAdapter.create(model, CONFIGS[method](), seed=4)
    pairs = list(zip(asked.parameters(), plain.parameters(), strict=True))
    assert pairs and all(torch.equal(one, other) and one.requires_grad for one, other in pairs)


def test_out_of_memory_is_no_refusal_of_the_models(tmp_path, monkeypatch):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model = loaded(tmp_path, "llama")
    monkeypatch.setattr(LanguageModel, "target_log_probs", full)
    with pytest.raises(torch.OutOfMemoryError):
        PeftAdapter.create(model, CONFIGS["prefix"]())
