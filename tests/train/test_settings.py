"""What the training command's settings do."""

import json

import pytest
import torch
from safetensors.torch import load_file

from qpeft_rerank import train
from qpeft_rerank.adapters.store import load_adapter
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.training import logbook, prefix, session
from qpeft_rerank.training.student import Student
from tests.train.words import command


def test_dev_run_and_datasets_settings(files, model_folder, capsys):
    more = ["--dataset", "trivia", "--dev-depth", 4, "--in-batch", "--loss", "contrastive", "--k", 3]
    assert train.main(command(files, model_folder, *more, adapter="qpeft-r", dev="--dev-run")) == 0
    record = json.loads((files / "out" / "training.json").read_text())
    assert record["recipe"]["margin"] == 1.1 and record["options"] == {"k": 3}
    assert record["recipe"]["sampling"]["in_batch"] and record["recipe"]["loss"] == "contrastive"
    assert "first stage" in capsys.readouterr().err


def test_the_curves_are_drawn(files, model_folder, monkeypatch):
    pytest.importorskip("matplotlib", reason="comes with the [report] extra")
    monkeypatch.setattr(session, "draw", logbook.draw)
    assert train.main(command(files, model_folder, "--epochs", 1)) == 0
    assert (files / "out" / "training.png").read_bytes().startswith(b"\x89PNG")


def test_any_positive(files, model_folder):
    assert train.main(command(files, model_folder, "--any-positive")) == 0
    assert json.loads((files / "out" / "training.json").read_text())["recipe"]["sampling"]["any_positive"]


@pytest.mark.parametrize("named", [[], ["--prompt", "upr"]])
def test_faithful_preset(files, model_folder, named):
    more = ["--preset", "faithful", "--dataset", "nq", *named]
    assert train.main(command(files, model_folder, *more, adapter="qpeft-r")) == 0
    # The authors' prompt, where none is named.
    template = load_adapter(str(files / "out"), LanguageModel.load(str(model_folder), "float32", "cpu")).template
    assert template.to_dict() == load_template(named[-1] if named else "qpeft").to_dict()
    record = json.loads((files / "out" / "training.json").read_text())
    # Batches of 2 questions: 3 negatives each, 6 pairs, 3 steps; 3 batches an epoch.
    assert record["steps"] == 2 * 3 * 3
    assert record["options"] == {"k": 15} and record["recipe"]["lr"] == 3e-2
    assert record["recipe"]["margin"] == 0.7
    # Of E', which trains whole, only what a question or a passage had moved: nothing decays.
    moved = load_file(files / "out" / "adapter_model.safetensors")["table.row_ids"]
    assert 0 < len(moved) < 400


@pytest.mark.parametrize("wanted", ["auto", "off", "kept"])
def test_passages_states_are_kept_on_demand(files, model_folder, monkeypatch, capsys, wanted):
    seen = []
    original = prefix.means_after_prefix

    def watched(model, sequences, hinter, store=None):
        seen.append(store.folder if store else None)
        return original(model, sequences, hinter, store)

    monkeypatch.setattr(prefix, "means_after_prefix", watched)
    folder = {"auto": files / "out.training" / "prefixes", "off": None, "kept": files / "kept"}[wanted]
    more = ["--prefix-cache", folder if wanted == "kept" else wanted]
    assert train.main(command(files, model_folder, *more, adapter="qpeft-r")) == 0
    assert seen[-1] == folder
    said = capsys.readouterr().err
    assert said.count("the states of passages are kept in") == (folder is not None)
    assert not (files / "out.training").exists()
    assert (files / "kept").is_dir() == (wanted == "kept")


def test_states_that_cannot_be_kept(files, model_folder, capsys):
    assert train.main(command(files, model_folder, "--prefix-cache", files / "kept", adapter="lora")) == 0
    assert "--prefix-cache: not used" in capsys.readouterr().err
    (files / "file").write_text("x")
    assert train.main(command(files, model_folder, "--overwrite", "--prefix-cache", files / "file")) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: --prefix-cache") and "cannot be made" in said


def test_dev_passages_past_the_fiftieth_are_told(files, model_folder, capsys):
    (line, *_) = (files / "train.jsonl").read_text().splitlines()
    record = json.loads(line)
    record["negatives"] = [{"text": f"number {place}"} for place in range(53)]
    (files / "dev.jsonl").write_text(json.dumps(record))
    assert train.main(command(files, model_folder, "--dev", files / "dev.jsonl", "--epochs", 1)) == 0
    assert "dev.jsonl: 1 of 1 questions, 3 passages past a question's 50th left out" in capsys.readouterr().err


def test_what_save_dtype_does_to_pefts_own(files, model_folder, capsys):
    more = ["--save-dtype", "float16", "--epochs", 1]
    assert train.main(command(files, model_folder, *more, adapter="lora")) == 0
    assert {part.dtype for part in load_file(files / "out" / "adapter_model.safetensors").values()} == {torch.float32}
    with pytest.raises(SystemExit):
        train.main(["--help"])
    assert "PEFT's own adapters keep the dtype they have" in " ".join(capsys.readouterr().out.split())


def test_k_larger_than_the_passages(files, model_folder):
    assert train.main(command(files, model_folder, "--k", 500, adapter="qpeft-r")) == 0


def test_output_is_refused_then_overwritten(files, model_folder, capsys):
    assert train.main(command(files, model_folder)) == 0
    first = (files / "out" / "adapter_model.safetensors").read_bytes()
    assert train.main(command(files, model_folder)) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err
    assert train.main(command(files, model_folder, "--overwrite")) == 0
    assert (files / "out" / "adapter_model.safetensors").read_bytes() == first
    assert not (files / "out.training").exists()


def test_modules_to_save_are_named_by_a_list_or_a_name(files, model_folder, capsys):
    saved = "modules_to_save=lm_head"
    assert train.main(command(files, model_folder, "--epochs", 1, "--option", saved, adapter="lora")) == 0
    found = [name for name in load_file(files / "out" / "adapter_model.safetensors") if "lora_" not in name]
    assert found == ["base_model.model.lm_head.weight"]
    for more, said in (
        (["modules_to_save=lm_haed"], "modules_to_save names lm_haed, which the model does not have"),
        ([saved, "--dtype", "bfloat16"], "what modules_to_save names would learn in bfloat16, too coarse"),
    ):
        assert train.main(command(files, model_folder, "--overwrite", "--option", *more, adapter="lora")) == 2
        assert f"error: --adapter lora: {said}" in capsys.readouterr().err.strip().splitlines()[-1]


def test_one_process_asks_accelerate_nothing(files, model_folder, monkeypatch):
    """What it was set to, for other trainings, would be refused where it does not suit this device."""

    def refused(*given, **settings):
        raise ValueError("fp16 mixed precision requires a device in ('cuda',) (not 'cpu').")

    monkeypatch.setattr("accelerate.Accelerator", refused)
    assert train.main(command(files, model_folder, "--epochs", 1)) == 0


def test_what_a_loss_does_not_look_at_is_not_read(files, model_folder, monkeypatch):
    read = []
    original = Student.encode

    def watched(self, groups):
        read.extend(len(group.passages) for group in groups)
        return original(self, groups)

    monkeypatch.setattr(Student, "encode", watched)
    assert train.main(command(files, model_folder, "--loss", "pointwise", "--epochs", 1)) == 0
    assert set(read) == {1}
