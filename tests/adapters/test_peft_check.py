"""Adapters of PEFT's that would score wrongly, or damage the model, are refused in one line."""

import peft
import pytest
import torch
from packaging.version import Version

from qpeft_rerank.adapters import peft_bridge
from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.store import load_adapter
from qpeft_rerank.errors import InputError
from tests.adapters.test_peft_bridge import CONFIGS as TAKEN
from tests.adapters.test_peft_bridge import LM, fresh, randomised

# PEFT warns of its own tuning of norms, and of int8 layers that it cannot merge.
pytestmark = pytest.mark.filterwarnings(
    "ignore::FutureWarning", "ignore:Unsupported layer type", "ignore:TorchaoLora", "ignore:Setting"
)
DTYPES = ["float32", "mixed", "bfloat16", "float16"]

CONFIGS = {
    "lily": lambda: peft.LilyConfig(r=4, target_modules=["q_proj"], **LM),
    "shadow": lambda: peft.ShadowConfig(**LM),
    "hira": lambda: peft.HiraConfig(r=4, target_modules=["q_proj"], init_weights=False, **LM),
    "kasa": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], kasa_config=peft.KasaConfig(), **LM),
    "replication": lambda: peft.LoraConfig(r=4, target_modules=["q_proj"], layer_replication=[[0, 2], [1, 2]], **LM),
}
# The first release of PEFT's that has each; what is absent can harm nothing.
SINCE = {"lily": "0.19", "hira": "0.20", "kasa": "0.21", "shadow": "0.21"}


def configured(kind):
    if Version(peft.__version__) < Version(SINCE.get(kind, "0")):
        pytest.skip(f"peft {peft.__version__} has no {kind}")
    return CONFIGS[kind]()


def refused(kind, model, dtype, folder):
    """What is said where PEFT's own folder is loaded; the same must be said of a new adapter."""
    torch.manual_seed(1)
    randomised(peft.get_peft_model(fresh(model, stock=True).model, configured(kind))).save_pretrained(folder)
    with pytest.raises(InputError) as caught:
        load_adapter(str(folder), fresh(model, dtype))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", ["lily", "shadow"])
def test_methods_that_suit_no_pass_of_ours(kind, model, tmp_path):
    assert f"{kind.upper()} is not supported" in refused(kind, model, "float32", tmp_path / "saved")
    with pytest.raises(InputError, match="is not supported"):
        PeftAdapter.create(fresh(model), configured(kind))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "said", "dtype"),
    [
        *(("shadow", "scores otherwise here than in peft", dtype) for dtype in DTYPES),
        *((kind, "changes the model's own layers", dtype) for kind in ("kasa", "replication") for dtype in DTYPES),
        *(("lily", "what else is in its batch", dtype) for dtype in ("float32", "mixed")),
    ],
)
def test_the_like_of_them_is_found_by_what_it_computes(kind, said, dtype, model, tmp_path, monkeypatch):
    monkeypatch.setattr(peft_bridge, "refuse_settings", lambda *given: None)
    assert said in refused(kind, model, dtype, tmp_path / "saved")


def test_layers_that_a_method_cannot_multiply(model, tmp_path):
    pytest.importorskip("torchao")
    said = "cannot be computed on tiny in int8: Int8Tensor"
    assert said in refused("hira", model, "int8", tmp_path / "saved")
    with pytest.raises(InputError, match=said):
        PeftAdapter.create(fresh(model, "int8"), configured("hira"))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [*DTYPES, "int8"])
def test_others_are_taken_in_every_dtype(dtype, model, tmp_path):
    if dtype == "int8":
        pytest.importorskip("torchao")
    for number, name in enumerate(("lora-all", "norms", "lora-head", "prefix", "prompt", "p-tuning")):
        torch.manual_seed(number)
        tuned = peft.get_peft_model(fresh(model, stock=True).model, TAKEN[name]())
        randomised(tuned).save_pretrained(tmp_path / name)
        assert load_adapter(str(tmp_path / name), fresh(model, dtype)).hinter.identity
