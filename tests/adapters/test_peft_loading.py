"""PEFT's adapters beside each other, on another base than their own, and of kinds that take no layers of ours."""

import json

import peft
import pytest
import torch
from packing import packing

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.store import load_adapter, save_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood import linears
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.methods import load_scorers
from tests.adapters.test_peft_bridge import CONFIGS, LM, PAIRS, fresh

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.mark.parametrize(
    ("base", "told"),
    [("somebody/other", True), ("C:\\models\\other\\", True), ("/elsewhere/Tiny/", False), ("", False), (None, False)],
)
def test_an_adapter_made_for_another_base_is_told_once(base, told, model, tmp_path, capsys):
    """Of PEFT's own nothing but the name is known."""
    peft.get_peft_model(fresh(model).model, CONFIGS["lora"]()).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": base}))
    for _ in range(2):
        load_adapter(str(tmp_path / "saved"), fresh(model))
    line = (
        f"adapter {tmp_path / 'saved'} was made for {base}, and is used on tiny: its scores mean something only if these "
        "are the same weights\n"
    )
    assert capsys.readouterr().err == (line if told else "")


@pytest.mark.parametrize(("inside", "models"), [("lora", 1), ("saved-layers", 3)])
def test_prompts_score_beside_an_adapter_in_the_layers(inside, models, model, plain, tmp_path):
    """In either order, and each as alone; one model is enough, unless PEFT itself does not find its layers again."""
    names, expected = [], {}
    for kind in (inside, "prompt", "prefix"):
        target = fresh(model)
        adapter = PeftAdapter.create(target, CONFIGS[kind]())
        with torch.no_grad():
            for part in adapter.trainable_parts().values():
                part.parameter.add_(0.3)
        names.append(str(save_adapter(adapter, target, plain, tmp_path / kind)))
        alone = Scorer(target, plain, adapter)
        expected[names[-1]] = [score.total for score in alone.score(alone.encode(PAIRS))]
    for order in (names, names[::-1]):
        scorers = load_scorers(lambda whole: fresh(model), order[0], order[1:], None, None)
        assert len({id(scorer.model) for scorer in scorers}) == (models if order == names else 1)
        for name, scorer in zip(order, scorers, strict=True):
            found = [score.total for score in scorer.score(scorer.encode(PAIRS))]
            assert found == pytest.approx(expected[name], abs=2e-4)


@packing
def test_a_kind_that_takes_no_layers_of_ours_says_what_helps(model, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(linears, "can_pack", lambda device: True)
    config = peft.GloraConfig(target_modules=["q_proj"], **LM) if hasattr(peft, "GloraConfig") else None
    if config is None:
        pytest.skip("this PEFT knows no GLoRA")
    peft.get_peft_model(fresh(model, stock=True).model, config).save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match=r"does not support this layer type\. Take --dtype bfloat16"):
        load_adapter(str(tmp_path / "saved"), fresh(model))
    narrow = fresh(model, "bfloat16")
    assert load_adapter(str(tmp_path / "saved"), narrow).hinter.kind == "GLORA"
