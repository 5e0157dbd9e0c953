"""Saving and loading: PEFT's layout, few bytes, and one line for whatever is wrong."""

import dataclasses
import json
from pathlib import Path

import peft
import pytest
import tiny
import torch
from safetensors.torch import load, load_file, save_file

from qpeft_rerank.adapters import store
from qpeft_rerank.adapters.card import Card
from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import load_adapter, save_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.identity import content_digest
from qpeft_rerank.likelihood.language_model import LanguageModel
from tests.adapters.refusal import refused


def changed(folder, **values):
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text("utf-8")) | values
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), "utf-8")


def resealed(folder, weights):
    """Write other weights with a digest that fits, as another program could."""
    save_file(weights, folder / "adapter_model.safetensors")
    changed(folder, weights_sha256=content_digest(folder / "adapter_model.safetensors"))


def test_layout(folder, adapter, model, qpeft):
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    config = json.loads((folder / "adapter_config.json").read_text("utf-8"))
    assert config["peft_type"] == "QPEFT_R"
    assert config["base_model_identity"] == model.source.identity
    assert config["base_model_name_or_path"] == model.source.name
    assert config["prompt"] == qpeft.to_dict()
    assert config["adapter"] == adapter.config.to_dict()
    assert set(config["versions"]) == {"qpeft_rerank", "torch", "transformers", "peft"}
    weights = load_file(folder / "adapter_model.safetensors")
    assert weights["table.row_ids"].tolist() == adapter.table.row_ids[5:9].tolist()
    assert "weight" not in "".join(name for name in weights if name.startswith("table"))


def test_whoever_may_read_the_configuration_may_read_the_weights(folder):
    modes = {path.stat().st_mode for path in folder.iterdir()}
    assert len(modes) == 1


def test_loaded_adapters_train_on(folder, adapter, model):
    back = load_adapter(str(folder), model).hinter
    assert back.identity == adapter.identity
    back.cover(range(100))
    assert back.identity == adapter.identity
    assert torch.equal(back.table(torch.arange(512)), adapter.table(torch.arange(512)))
    assert back.trainable_parts() and not back.training


def test_whole_and_rows_are_the_same(model, qpeft, tmp_path):
    whole = create_adapter("qpeft-r", model, qpeft, embeddings="whole")
    with torch.no_grad():
        whole.table.rows[7] += 1.0
    back = load_adapter(str(save_adapter(whole, model, qpeft, tmp_path / "whole")), model).hinter
    assert back.table.rows.shape == (512, 32)
    assert torch.equal(back.table.rows, whole.table.rows)
    weights = load_file(tmp_path / "whole" / "adapter_model.safetensors")
    assert weights["table.rows"].shape == (1, 32)


def test_saving_again_replaces(folder, adapter, model, qpeft):
    (folder / "notes.txt").write_text("mine", "utf-8")
    other = create_adapter("qpeft-a", model, qpeft)
    save_adapter(other, model, qpeft, folder)
    assert load_adapter(str(folder), model).hinter.identity == other.identity
    assert (folder / "notes.txt").read_text("utf-8") == "mine"
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize("own", [True, False])
def test_a_replacement_that_is_broken_off_leaves_no_other_adapter(own, model, plain, qpeft, tmp_path, monkeypatch):
    def made(seed):
        if own:
            return model, create_adapter("qpeft-a", model, qpeft, seed=seed)
        torch.manual_seed(seed)
        base = LanguageModel.load(str(model.source.folder), "float32", "cpu")
        config = peft.LoraConfig(r=2, init_lora_weights=False, target_modules=["q_proj"], task_type="CAUSAL_LM")
        return base, PeftAdapter.create(base, config)

    replace, stops = Path.replace, 0
    (model_1, first), (model_2, second) = made(1), made(2)
    while True:
        folder = save_adapter(first, model_1, qpeft, tmp_path / f"stop-{stops}")
        left = [stops]

        def broken(path, target, left=left):
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return replace(path, target)

        monkeypatch.setattr(Path, "replace", broken)
        try:
            save_adapter(second, model_2, qpeft, folder)
            break
        except KeyboardInterrupt:
            stops += 1
        finally:
            monkeypatch.setattr(Path, "replace", replace)
        assert "cannot be read" in refused(str(folder), model) or "no adapter" in refused(str(folder), model)
        save_adapter(second, model_2, qpeft, folder)
        assert _load(folder, model).template == qpeft
    assert stops >= 3
    assert _load(folder, model).hinter.identity == second.identity


def test_a_folder_may_be_the_present_one(adapter, model, qpeft, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    save_adapter(adapter, model, qpeft, Path())
    assert load_adapter(str(tmp_path / "here"), model).hinter.identity == adapter.identity


def test_the_base_model_is_named_as_the_hub_has_it(adapter, model, qpeft, tmp_path, monkeypatch):
    hub = dataclasses.replace(model.source, name="tiny", hub="someone/tiny")
    monkeypatch.setattr(model, "source", hub)
    folder = save_adapter(adapter, model, qpeft, tmp_path / "mine")
    assert json.loads((folder / "adapter_config.json").read_text())["base_model_name_or_path"] == "someone/tiny"
    assert 'base_model: "someone/tiny"' in (folder / "README.md").read_text()


def _load(folder, model):
    """With a model of its own: PEFT changes layers in place."""
    return load_adapter(str(folder), LanguageModel.load(str(model.source.folder), "float32", "cpu"))


def test_other_folders_are_left_alone(adapter, model, qpeft, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "thesis.tex").write_text("x", "utf-8")
    with pytest.raises(InputError, match="something else"):
        save_adapter(adapter, model, qpeft, tmp_path / "work")
    with pytest.raises(InputError, match="cannot be written"):
        save_adapter(adapter, model, qpeft, tmp_path / "work" / "thesis.tex" / "deeper")
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_a_failed_save_leaves_the_old_one(folder, adapter, model, qpeft, monkeypatch):
    monkeypatch.setattr(store, "render", lambda *rest: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="No space left"):
        save_adapter(create_adapter("qpeft-a", model, qpeft), model, qpeft, folder)
    assert load_adapter(str(folder), model).hinter.identity == adapter.identity
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


@pytest.fixture
def small_disk():
    """A file system that takes PEFT's card of 5,000 bytes, and no weights."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("own", [True, False])
def test_weights_that_the_disk_does_not_take(own, adapter, model, qpeft, tmp_path, small_disk):
    base, made = model, adapter
    if not own:
        base = LanguageModel.load(str(model.source.folder), "float32", "cpu")
        made = PeftAdapter.create(base, peft.LoraConfig(r=32, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    with pytest.raises(InputError, match=r"mine: cannot be written \(.*File too large"):
        save_adapter(made, base, qpeft, tmp_path / "mine")
    assert not list(tmp_path.iterdir())


def test_card(adapter, model, qpeft, tmp_path):
    card = Card("320 questions of NQ", "python -m qpeft_rerank.train --adapter qpeft-r", {"R@10 | NQ": 41.25})
    text = (save_adapter(adapter, model, qpeft, tmp_path / "mine", card) / "README.md").read_text("utf-8")
    for words in (
        "320 questions of NQ",
        "qpeft_rerank.train --adapter",
        "| R@10 \\| NQ | 41.25 |",
        "qpeft-r",
    ):
        assert words in text
    import yaml

    head = yaml.safe_load(text.split("---")[1])
    # The name of a folder may be a stranger's on the hub.
    assert "base_model" not in head and "qpeft" in head["tags"]
    assert f"adapter for `{model.source.name}`" in text


def test_wrong_base_model(folder, tmp_path):
    other = LanguageModel.load(str(tiny.save_model(tmp_path / "other", seed=1)), dtype="float32", device="cpu")
    message = refused(folder, other)
    assert "belongs to another model, tiny, than other" in message


def test_other_weights_of_the_same_model(folder, model):
    """Two roundings of one model have one name, so the name alone would say nothing."""
    changed(folder, base_model_identity="0" * 32)
    name = model.source.name
    assert f"belongs to other weights of {name}; give its own with --model" in refused(folder, model)


def test_card_names_the_file_that_weights_came_from(adapter, model, qpeft, tmp_path, monkeypatch):
    (tmp_path / "model.Q4_1.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(model, "source", dataclasses.replace(model.source, gguf=tmp_path / "model.Q4_1.gguf"))
    text = (save_adapter(adapter, model, qpeft, tmp_path / "mine") / "README.md").read_text("utf-8")
    assert f"adapter for `{model.source.name}` with the weights of `model.Q4_1.gguf`" in text


def test_newer_format(folder, model):
    changed(folder, format_version=2)
    assert "format 2 is newer" in refused(folder, model)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format_version": None}, "no format_version"),
        ({"format_version": True}, "no format_version"),
        ({"peft_type": None}, "no peft_type"),
        ({"prompt": None}, "YAML mapping"),
        ({"adapter": None}, "not a mapping"),
        ({"adapter": {"k": -1}}, "k must be at least 1"),
        ({"adapter": {"heads": 1}}, "no option 'heads'"),
        ({"adapter": {"start": "\ud800"}}, "start has half a surrogate pair"),
        (
            {"peft_type": "QPEFT_A", "adapter": {"heads": 3}},
            "adapter_config.json: adapter qpeft-a: 3 heads do not divide",
        ),
        ({"weights_sha256": "0"}, "damaged"),
    ],
)
def test_damaged_configuration(values, words, folder, model):
    changed(folder, **values)
    assert words in refused(folder, model)


@pytest.mark.parametrize(
    ("text", "says"),
    [("{", "not JSON"), ('{"adapter": ' + "[" * 100_000, "not JSON"), ("[]", "not a JSON object")],
    ids=["broken", "deep", "list"],
)
def test_not_json(folder, model, text, says):
    (folder / "adapter_config.json").write_text(text, "utf-8")
    assert f"adapter_config.json: {says}" in refused(folder, model)


def test_damaged_weights(folder, model):
    path = folder / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(folder, model)
    changed(folder, weights_sha256=content_digest(path))
    assert "damaged" in refused(folder, model)
    path.unlink()
    assert "is missing" in refused(folder, model)


def test_weights_that_do_not_fit(folder, model):
    # Not by load_file, whose tensors may be views of the file that is written over.
    weights = load((folder / "adapter_model.safetensors").read_bytes())
    resealed(folder, {name: tensor for name, tensor in weights.items() if name != "mlp.net.0.bias"})
    assert "mlp.net.0.bias" in refused(folder, model)
    resealed(folder, weights | {"mlp.net.0.bias": torch.zeros(3)})
    assert "shape [3], not [32]" in refused(folder, model)
    resealed(folder, weights | {"table.row_ids": torch.tensor([1, 2, 3, 512])})
    assert "vocabulary" in refused(folder, model)
    resealed(folder, {name: tensor for name, tensor in weights.items() if not name.startswith("table")})
    assert "no table" in refused(folder, model)


def test_an_adapter_that_does_not_fit_beside_the_model(folder, model, monkeypatch):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.nn.Module, "to", full)
    with pytest.raises(InputError, match="does not fit into the memory of cpu beside the model"):
        load_adapter(str(folder), model)
