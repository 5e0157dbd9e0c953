"""PEFT's own methods score through our engine as they do through PEFT's own forward pass."""

import json
from concurrent.futures import ThreadPoolExecutor

import peft
import pytest
import tiny
import torch
from packing import packing

from qpeft_rerank.adapters.find import find_adapter, saved_template
from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.store import load_adapter, save_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood import linears
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.prompt import load_template

# PEFT calls transformers by names that are going to change, and warns of its own tuning of norms.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore:Unsupported layer type")
LM = {"task_type": "CAUSAL_LM"}
CONFIGS = {
    "lora": lambda: peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj", "v_proj"], **LM),
    "lora-head": lambda: peft.LoraConfig(
        r=4,
        init_lora_weights=False,
        target_modules=["q_proj", "lm_head"],
        modules_to_save=["embed_tokens"],
        **LM,
    ),
    "lora-all": lambda: peft.LoraConfig(r=4, init_lora_weights=False, target_modules="all-linear", **LM),
    "saved-layers": lambda: peft.LoraConfig(
        r=4, init_lora_weights=False, target_modules=["v_proj"], modules_to_save=["lm_head", "q_proj"], **LM
    ),
    "lora-parameters": lambda: peft.LoraConfig(
        r=4, init_lora_weights=False, target_modules=[], target_parameters=["v_proj.weight", "lm_head.weight"], **LM
    ),
    "norms": lambda: peft.LNTuningConfig(target_modules=["input_layernorm", "norm"], **LM),
    "dora": lambda: peft.LoraConfig(r=4, init_lora_weights=False, use_dora=True, target_modules=["o_proj"], **LM),
    "ia3": lambda: peft.IA3Config(
        init_ia3_weights=False,
        target_modules=["k_proj", "down_proj"],
        feedforward_modules=["down_proj"],
        **LM,
    ),
    "prompt": lambda: peft.PromptTuningConfig(num_virtual_tokens=5, **LM),
    "p-tuning": lambda: peft.PromptEncoderConfig(num_virtual_tokens=4, encoder_hidden_size=16, **LM),
    "prefix": lambda: peft.PrefixTuningConfig(num_virtual_tokens=6, **LM),
    "prefix-mlp": lambda: peft.PrefixTuningConfig(
        num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=16, **LM
    ),
}
# Others of PEFT's methods, whose scores alone are compared.
KIN = {
    "adalora": lambda: peft.AdaLoraConfig(total_step=10, target_modules=["q_proj", "down_proj"], **LM),
    "loha": lambda: peft.LoHaConfig(init_weights=False, target_modules=["v_proj"], **LM),
    "lokr": lambda: peft.LoKrConfig(init_weights=False, target_modules=["v_proj"], **LM),
    "oft": lambda: peft.OFTConfig(r=0, oft_block_size=4, init_weights=False, target_modules=["q_proj"], **LM),
    "hra": lambda: peft.HRAConfig(r=4, init_weights=False, target_modules=["q_proj"], **LM),
    "vera": lambda: peft.VeraConfig(r=4, init_weights=False, target_modules=["q_proj"], **LM),
    "fourier": lambda: peft.FourierFTConfig(n_frequency=20, target_modules=["q_proj"], **LM),
    "tokens": lambda: peft.LoraConfig(
        r=2, init_lora_weights=False, target_modules=["q_proj"], trainable_token_indices=[40, 41, 101], **LM
    ),
}
PAIRS = [
    ("who wrote the first program", "Ada", "Ada Lovelace wrote the first program."),
    ("bug", "", "the bug " * 10),
    ("why", "", ""),
]


def randomised(tuned, seed=0):
    """PEFT starts some methods as no change at all; move everything that trains."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in tuned.named_parameters():
            if parameter.requires_grad and "magnitude" not in name:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return tuned.eval()


def loaded(folder, **settings):
    return LanguageModel.load(str(tiny.save_model(folder, **settings)), dtype="float32", device="cpu")


def fresh(model, dtype="float32", stock=False):
    """Another copy of a model: PEFT changes layers in place.

    :param stock: of layers as ``transformers`` makes them.
    """
    return LanguageModel.load(str(model.source.folder), dtype, "cpu", stock)


def reference(tuned, sequence):
    """Log-probabilities of the target by PEFT's forward pass."""
    ids = torch.tensor([sequence.ids])
    with torch.no_grad():
        logits = tuned(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0].float().log_softmax(-1)
    n = len(sequence.target)
    return logits[-n - 1 : -1].gather(1, ids[0, -n:, None])[:, 0]


@pytest.mark.parametrize("kind", [*CONFIGS, *(pytest.param(kind, marks=pytest.mark.slow) for kind in KIN)])
@pytest.mark.parametrize(("saved_by", "packed"), [("peft", False), pytest.param("us", True, marks=packing)])
def test_scores_are_those_of_peft(kind, saved_by, packed, model, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(linears, "can_pack", lambda device: packed)
    torch.manual_seed(1)
    tuned = peft.get_peft_model(fresh(model, stock=True).model, (CONFIGS | KIN)[kind]())
    randomised(tuned)
    sequences = Scorer(model, plain).encode(PAIRS)
    expected = [reference(tuned, sequence) for sequence in sequences]
    if saved_by == "peft":
        tuned.save_pretrained(tmp_path / "saved")
    else:
        save_adapter(PeftAdapter(model, tuned), model, plain, tmp_path / "saved")
    target = fresh(model)
    bare = Scorer(target, plain)
    before = [score.total for score in bare.score(sequences)]
    back = load_adapter(str(tmp_path / "saved"), target)
    assert back.template == (plain if saved_by == "us" else None)
    scorer = Scorer(target, plain, back.hinter)
    assert scorer.encode(PAIRS) == sequences
    for logs, wanted in zip(scorer.log_probs(sequences), expected, strict=True):
        torch.testing.assert_close(logs, wanted, atol=1e-4, rtol=0)
    alone = [scorer.score([sequence])[0].total for sequence in sequences]
    assert [score.total for score in scorer.score(sequences)] == pytest.approx(alone, abs=2e-4)
    # Off is off, although layers were changed in place.
    assert [score.total for score in bare.score(sequences)] == before
    assert before != pytest.approx(alone, abs=1e-3)
    assert bare.fingerprint != scorer.fingerprint
    assert load_adapter(str(tmp_path / "saved"), fresh(model)).hinter.identity == back.hinter.identity


@packing
@pytest.mark.parametrize("kind", ["lora-all", "norms", "prompt"])
def test_off_is_off_after_a_while_in_float32(kind, model, plain, monkeypatch):
    monkeypatch.setattr(linears, "can_pack", lambda device: True)
    target = fresh(model, "mixed")
    bare = Scorer(target, plain)
    sequences = bare.encode(PAIRS)
    before = bare.score(sequences)
    exactly = Scorer(fresh(model), plain).score(sequences)
    tuned = Scorer(target, plain, PeftAdapter.create(target, CONFIGS[kind]()))
    theirs = tuned.score(sequences)
    with bare.in_float32() as exact:
        assert exact.score(sequences) == exactly != before
    assert (bare.score(sequences), tuned.score(sequences)) == (before, theirs)


@pytest.mark.parametrize("kind", ["prompt", "prefix", "lora"])
def test_models_whose_logits_are_capped(kind, plain, tmp_path):
    model = loaded(tmp_path / "gemma", model_type="gemma2", kind="gemma")
    torch.manual_seed(1)
    tuned = randomised(peft.get_peft_model(fresh(model).model, CONFIGS[kind]()))
    tuned.save_pretrained(tmp_path / "saved")
    scorer = Scorer(model, plain, load_adapter(str(tmp_path / "saved"), model).hinter)
    sequences = scorer.encode(PAIRS)
    for logs, sequence in zip(scorer.log_probs(sequences), sequences, strict=True):
        torch.testing.assert_close(logs, reference(tuned, sequence), atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", CONFIGS)
def test_training_touches_the_adapter_only(kind, model, plain):
    target = fresh(model)
    names = {name: tensor.clone() for name, tensor in target.model.state_dict().items()}
    adapter = PeftAdapter.create(target, CONFIGS[kind]())
    parts = adapter.trainable_parts()
    vectors = {name for name, part in parts.items() if part.role == "embedding"}
    assert parts and vectors == {name for name, part in parts.items() if part.parameter.dim() < 2 or kind == "prompt"}
    bare, scorer = Scorer(target, plain), Scorer(target, plain, adapter)
    sequences = scorer.encode(PAIRS)
    before, identity = [score.total for score in bare.score(sequences)], adapter.identity
    optimizer = torch.optim.AdamW([part.parameter for part in parts.values()], lr=1e-2)
    losses = []
    adapter.train()
    for _ in range(4):
        loss = -target.target_log_probs(sequences, adapter).mean()
        loss.backward()
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    adapter.eval()
    assert losses[-1] < losses[0] and adapter.identity != identity
    assert [score.total for score in bare.score(sequences)] == before
    after = target.model.state_dict()
    for name, tensor in names.items():
        inside = [key for key in after if key.replace(".base_layer", "").replace(".original_module", "") == name]
        assert torch.equal(after[inside[0]], tensor), name
    # Dropped back into evaluation, gradients can still be asked for.
    target.target_log_probs(sequences, adapter).sum().backward()
    assert any(part.parameter.grad is not None for part in adapter.trainable_parts().values())


def test_created_adapters_resume_from_their_state(model, plain):
    for kind in ("lora", "p-tuning"):
        first = PeftAdapter.create(fresh(model), CONFIGS[kind](), seed=1)
        other = PeftAdapter.create(fresh(model), CONFIGS[kind](), seed=2)
        assert first.identity == PeftAdapter.create(fresh(model), CONFIGS[kind](), seed=1).identity
        assert first.identity != other.identity
        other.load_state_dict(first.state_dict())
        assert first.identity == other.identity


def test_virtual_tokens_take_room(model, plain, tmp_path):
    target = fresh(model)
    adapter = PeftAdapter.create(target, CONFIGS["prompt"]())
    scorer = Scorer(target, plain, adapter)
    (sequence,) = scorer.encode([("bug", "", "a long passage " * 100)])
    assert sequence.truncated and len(sequence) == target.max_tokens - 5


def test_a_pickle_is_refused(model, tmp_path):
    tuned = peft.get_peft_model(fresh(model).model, CONFIGS["lora"]())
    tuned.save_pretrained(tmp_path / "saved", safe_serialization=False)
    with pytest.raises(InputError, match="a pickle"):
        load_adapter(str(tmp_path / "saved"), fresh(model))


def test_other_base_models(model, plain, tmp_path):
    tuned = PeftAdapter.create(fresh(model), CONFIGS["lora"]())
    save_adapter(tuned, model, plain, tmp_path / "ours")
    wide = loaded(tmp_path / "wide", hidden_size=48, num_attention_heads=6)
    with pytest.raises(InputError, match="belongs to another model"):
        load_adapter(str(tmp_path / "ours"), wide)
    (tmp_path / "ours" / "qpeft_rerank.json").unlink()
    with pytest.raises(InputError, match="does not load on wide") as caught:
        load_adapter(str(tmp_path / "ours"), wide)
    assert "\n" not in str(caught.value)


def test_a_folder_tells_its_prompt(model, plain, tmp_path):
    """Ours do, of whichever kind; PEFT's own do not."""
    assert saved_template(find_adapter("smollm2-135m-a")).name == "plain"
    save_adapter(PeftAdapter.create(fresh(model), CONFIGS["lora"]()), model, load_template("upr"), tmp_path / "ours")
    assert saved_template(tmp_path / "ours").name == "upr"
    (tmp_path / "ours" / "qpeft_rerank.json").unlink()
    assert saved_template(tmp_path / "ours") is None


def test_memory_that_runs_out_is_no_fault_of_the_adapter(model, plain, tmp_path, monkeypatch):
    save_adapter(PeftAdapter.create(fresh(model), CONFIGS["lora"]()), model, plain, tmp_path / "saved")

    def full(*given, **settings):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(peft.PeftModelForCausalLM, "__init__", full)
    with pytest.raises(torch.OutOfMemoryError):
        PeftAdapter.create(fresh(model), CONFIGS["lora"]())
    with pytest.raises(InputError, match="does not fit into the memory of cpu beside the model"):
        load_adapter(str(tmp_path / "saved"), fresh(model))


def test_weights_that_are_not_all_there(model, tmp_path):
    from safetensors.torch import load, save_file

    peft.get_peft_model(fresh(model).model, CONFIGS["lora"]()).save_pretrained(tmp_path / "saved")
    path = tmp_path / "saved" / "adapter_model.safetensors"
    weights = load(path.read_bytes())
    save_file(dict(list(weights.items())[1:]), path)
    with pytest.raises(InputError, match="missing adapter keys"):
        load_adapter(str(tmp_path / "saved"), fresh(model))


def test_weights_without_a_place(model, tmp_path):
    tuned = peft.get_peft_model(fresh(model).model, CONFIGS["lora"]())
    tuned.save_pretrained(str(tmp_path / "adapter"))
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"target_modules": ["q_proj"]}))
    with pytest.raises(InputError, match=r"\d+ of its weights have no place .*v_proj"):
        load_adapter(str(tmp_path / "adapter"), fresh(model))


@pytest.mark.parametrize("kind", ["lora", "prompt"])
def test_loading_asks_no_hub(kind, model, plain, tmp_path, monkeypatch):
    asked = []
    target = fresh(model)
    folder = save_adapter(PeftAdapter.create(target, CONFIGS[kind]()), target, plain, tmp_path / "saved")
    path = folder / "adapter_config.json"
    # As an adapter of the embedded model or of a hub's has it: no folder of this machine.
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "somebody/model"}))
    monkeypatch.setattr("peft.utils.save_and_load.check_file_exists_on_hf_hub", lambda *of: asked.append(of))
    load_adapter(str(folder), fresh(model))
    assert not asked


def test_unsupported(model, plain, tmp_path):
    target = fresh(model)
    adapter = PeftAdapter.create(target, CONFIGS["lora"]())
    with pytest.raises(InputError, match="already"):
        PeftAdapter.create(target, CONFIGS["lora"]())
    with pytest.raises(InputError, match="own weights"):
        PeftAdapter.create(fresh(model), peft.LoraConfig(bias="all", **LM))
    with pytest.raises(InputError, match="is not supported"):
        PeftAdapter.create(fresh(model), peft.MultitaskPromptTuningConfig(num_virtual_tokens=2, **LM))
    with pytest.raises(InputError, match="cannot put LORA"):
        PeftAdapter.create(fresh(model), peft.LoraConfig(target_modules=["nothing"], **LM))
    folder = save_adapter(adapter, target, plain, tmp_path / "saved")
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["base_model_name_or_path"] == target.source.name
    (folder / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "TELEPATHY"}), "utf-8")
    with pytest.raises(InputError, match="TELEPATHY"):
        load_adapter(str(folder), fresh(model))


def test_threads_take_turns(model, plain):
    """An adapter in the layers is switched on for a batch: no other thread may read one meanwhile."""
    target = fresh(model)
    tuned = PeftAdapter.create(target, CONFIGS["lora"]())
    with torch.no_grad():
        for part in tuned.trainable_parts().values():
            part.parameter.add_(0.3)
    scorers = [Scorer(target, plain, tuned), Scorer(target, plain)]
    sequences = [scorer.encode([("bug", "", "a long passage " * 9)]) for scorer in scorers]
    expected = [scorer.log_probs(given)[0] for scorer, given in zip(scorers, sequences, strict=True)]
    assert not torch.allclose(expected[0], expected[1], atol=1e-2)

    def score(turn):
        return scorers[turn % 2].log_probs(sequences[turn % 2])[0]

    with ThreadPoolExecutor(4) as pool:
        for turn, found in enumerate(pool.map(score, range(80))):
            torch.testing.assert_close(found, expected[turn % 2])


def test_weights_go_to_no_other_device_than_the_model_s(model, plain, tmp_path, monkeypatch):
    """PEFT's own idea of where to read them is a GPU, if there is one, even for a model that is kept off it."""
    save_adapter(PeftAdapter.create(fresh(model), CONFIGS["lora"]()), model, plain, tmp_path / "saved")
    monkeypatch.setattr(peft.peft_model, "infer_device", lambda: "cuda")
    assert load_adapter(str(tmp_path / "saved"), fresh(model)).hinter.kind == "LORA"
