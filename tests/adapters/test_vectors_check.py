"""Models that read more of a token than its embedding: what stands before their layers is refused, what is in them not."""

import peft
import pytest
import tiny
import torch
from transformers import AutoModelForCausalLM

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import load_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.shared import SharedScorer
from tests.adapters.test_peft_bridge import CONFIGS, PAIRS, randomised, reference

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")
# Both look tokens up for each layer; the second refuses vectors that are no token's.
SETTINGS = {
    "gemma3n_text": {"laurel_rank": 8, "altup_num_inputs": 2},
    "gemma4_text": {"global_head_dim": 8},
}


@pytest.fixture(scope="module", params=SETTINGS)
def folder(request, tmp_path_factory):
    common = {"hidden_size_per_layer_input": 8, "vocab_size_per_layer_input": 512, "num_kv_shared_layers": 0}
    place = tmp_path_factory.mktemp("model") / request.param
    tiny.save_model(place, "gemma", model_type=request.param, **common, **SETTINGS[request.param])
    made = AutoModelForCausalLM.from_pretrained(place)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if name.endswith("correct_output_scale"):  # untrained, it hides what is looked up
                parameter.fill_(1.0)
    made.save_pretrained(place)
    return place


def loaded(folder):
    return LanguageModel.load(str(folder), "float32", "cpu")


@pytest.mark.parametrize("adapter", ["qpeft-a", "qpeft-r", "soft-prompt"])
def test_adapters_before_the_layers_are_refused(folder, adapter, qpeft):
    said = f"adapter {adapter}: {folder.name} reads more of a token than its embedding"
    with pytest.raises(InputError, match=said):
        create_adapter(adapter, loaded(folder), qpeft)


@pytest.mark.parametrize("kind", ["prompt", "p-tuning"])
def test_pefts_own_as_well(folder, kind):
    with pytest.raises(InputError, match="reads more of a token than its embedding"):
        PeftAdapter.create(loaded(folder), CONFIGS[kind]())


@pytest.mark.parametrize("kind", ["lora", "lora-head", "prefix"])
def test_those_in_the_layers_score_as_in_peft(folder, kind, plain, tmp_path):
    torch.manual_seed(1)
    tuned = randomised(peft.get_peft_model(loaded(folder).model, CONFIGS[kind]()))
    tuned.save_pretrained(tmp_path / "saved")
    model = loaded(folder)
    scorer = Scorer(model, plain, load_adapter(str(tmp_path / "saved"), model).hinter)
    pairs = [*PAIRS, ("why is it so", *PAIRS[0][1:])]
    sequences = scorer.encode(pairs)
    expected = [reference(tuned, sequence) for sequence in sequences]
    for logs, wanted in zip(scorer.log_probs(sequences), expected, strict=True):
        torch.testing.assert_close(logs, wanted, atol=2e-4, rtol=0)
    shared = SharedScorer(scorer, "on")
    if shared.works:
        together = shared.log_probs([[sequences[0], sequences[3]]])
        torch.testing.assert_close(together[1], expected[3], atol=2e-4, rtol=0)


def test_a_prompt_for_embeddings_of_another_width(tmp_path):
    """Of another model's adapter, or where PEFT takes the states' width for theirs."""
    wide = {"hidden_size": 48, "num_attention_heads": 6}
    folders = [tiny.save_model(tmp_path / "wide", **wide), tiny.save_model(tmp_path / "llama")]
    peft.get_peft_model(loaded(folders[0]).model, CONFIGS["prompt"]()).save_pretrained(tmp_path / "saved")
    with pytest.raises(InputError, match="PROMPT_TUNING cannot be computed on llama: Sizes of tensors"):
        load_adapter(str(tmp_path / "saved"), loaded(folders[1]))
    narrow = tiny.save_model(tmp_path / "opt", model_type="opt", ffn_dim=64, word_embed_proj_dim=16)
    with pytest.raises(InputError, match="P_TUNING cannot be computed on opt: Sizes of tensors"):
        PeftAdapter.create(loaded(narrow), CONFIGS["p-tuning"]())
