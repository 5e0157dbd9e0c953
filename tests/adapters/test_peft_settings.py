"""Settings of PEFT's methods that suit no pass of this package are refused, in one line, new or loaded."""

import json

import peft
import pytest
from transformers import AutoModelForSequenceClassification

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.store import load_adapter, save_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.scorer import Scorer
from tests.adapters.test_peft_bridge import CONFIGS, KIN, LM, fresh, loaded, randomised, reference

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.mark.parametrize("kind", [peft.PromptTuningConfig, peft.PrefixTuningConfig])
def test_more_virtual_tokens_than_the_context_holds(kind, model, tmp_path):
    said = "its 256 virtual tokens fill the model's context of 256 tokens"
    with pytest.raises(InputError, match=said):
        PeftAdapter.create(fresh(model), kind(num_virtual_tokens=256, **LM))
    peft.get_peft_model(fresh(model).model, kind(num_virtual_tokens=256, **LM)).save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match=said):
        load_adapter(str(tmp_path / "saved"), fresh(model))


@pytest.mark.parametrize(
    ("kind", "changes", "said"),
    [
        ("prefix", {"num_layers": 1}, "num_layers is 1, this model's 2"),
        ("prefix-mlp", {"num_layers": 3}, "num_layers is 3, this model's 2"),
        ("prefix", {"num_transformer_submodules": 2}, "num_transformer_submodules is 2, this model's 1"),
        ("lora", {"alora_invocation_tokens": [5]}, "alora_invocation_tokens is not supported"),
        ("lora", {"kasa_config": {}}, "its kasa_config changes the model's own weights"),
        (
            "lora",
            {"layer_replication": [[0, 2], [1, 2]]},
            "its layer_replication changes the model's own weights or layers",
        ),
    ],
)
def test_settings_that_fit_no_pass_of_ours(kind, changes, said, model, tmp_path):
    config = CONFIGS[kind]()
    for field, value in changes.items():
        setattr(config, field, value)
    with pytest.raises(InputError, match=said):
        PeftAdapter.create(fresh(model), config)
    peft.get_peft_model(fresh(model).model, CONFIGS[kind]()).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError, match=said):
        load_adapter(str(tmp_path / "saved"), fresh(model))


def test_trained_tokens_of_a_tied_model_can_be_off(plain, tmp_path):
    """The head that shares them has no layer of the model's own inside."""
    tied = loaded(tmp_path / "tied", tie_word_embeddings=True)
    pairs = [("who wrote the first program", "Ada", "Ada Lovelace wrote it.")]
    tuned = peft.get_peft_model(fresh(tied, stock=True).model, KIN["tokens"]())
    randomised(tuned).save_pretrained(tmp_path / "saved")
    target = fresh(tied)
    hinter = load_adapter(str(tmp_path / "saved"), target).hinter
    alone, on = Scorer(target, plain), Scorer(target, plain, hinter)
    sequences = alone.encode(pairs)
    assert alone.score(sequences)[0].total == Scorer(tied, plain).score(sequences)[0].total
    expected = float(reference(tuned, sequences[0]).sum())
    assert on.score(sequences)[0].total == pytest.approx(expected, abs=1e-3)
    assert alone.score(sequences)[0].total == Scorer(tied, plain).score(sequences)[0].total


def test_where_a_tokenizer_lies_is_no_part_of_the_adapter(model, plain, tmp_path):
    """Nor is it saved, with the words that a prompt started from: it is a path of this machine."""
    (tmp_path / "link").symlink_to(model.source.folder)
    made = []
    for folder in (model.source.folder, tmp_path / "link"):
        words = {"prompt_tuning_init": "TEXT", "prompt_tuning_init_text": "who wrote it"}
        config = peft.PromptTuningConfig(num_virtual_tokens=3, tokenizer_name_or_path=str(folder), **words, **LM)
        made.append(PeftAdapter.create(fresh(model), config))
    assert made[0].identity == made[1].identity
    saved = save_adapter(made[1], model, plain, tmp_path / "saved")
    assert json.loads((saved / "adapter_config.json").read_text())["tokenizer_name_or_path"] == model.source.name
    assert load_adapter(str(saved), fresh(model)).hinter.identity == made[0].identity


def test_an_adapter_of_another_task_is_refused(model, tmp_path):
    """As rerankers with a head of their own, or retrievers' encoders: their weights would have no place here."""
    classifier = AutoModelForSequenceClassification.from_pretrained(model.source.folder, num_labels=1)
    config = peft.LoraConfig(r=4, target_modules=["q_proj"], task_type="SEQ_CLS")
    peft.get_peft_model(classifier, config).save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match=r"was made for the task SEQ_CLS; .* give one of CAUSAL_LM$"):
        load_adapter(str(tmp_path / "saved"), fresh(model))


def test_embeddings_saved_with_an_adapter_are_no_part_of_it(model, tmp_path):
    tuned = peft.get_peft_model(fresh(model).model, CONFIGS["lora"]())
    tuned.save_pretrained(tmp_path / "saved", save_embedding_layers=True)
    with pytest.raises(
        InputError, match=r"takes the place of the model's own weights, .* give the model that comes out"
    ):
        load_adapter(str(tmp_path / "saved"), fresh(model))


def test_a_prompt_that_brings_layers_is_refused(model, tmp_path):
    """PEFT never switches them off, so the model alone would score with them."""
    config = CONFIGS["prompt"]()
    config.modules_to_save = ["lm_head"]
    randomised(peft.get_peft_model(fresh(model).model, config)).save_pretrained(tmp_path / "saved")
    for make in (
        lambda: load_adapter(str(tmp_path / "saved"), fresh(model)),
        lambda: PeftAdapter.create(fresh(model), config),
    ):
        with pytest.raises(InputError, match="its modules_to_save changes the model's own weights or layers"):
            make()
