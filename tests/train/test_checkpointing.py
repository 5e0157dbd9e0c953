"""Gradient checkpointing: which adapters train with it, and where it is advised."""

import pytest
import torch
from transformers import LlamaPreTrainedModel

from qpeft_rerank import train
from qpeft_rerank.training import prefix
from tests.train.words import command

FLAG = "--gradient-checkpointing"


@pytest.fixture
def last_line(files, model_folder, capsys):
    """A function that trains, and gives what was said last."""

    def run(adapter, *more):
        assert train.main(command(files, model_folder, *more, adapter=adapter)) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


def test_losses_stay_the_same(files, model_folder):
    values = []
    for more in ([], [FLAG]):
        assert train.main(command(files, model_folder, "--overwrite", *more, adapter="lora")) == 0
        rows = (files / "out" / "log.csv").read_text().splitlines()[1:]
        values.append([float(row.split(",")[2]) for row in rows if row.split(",")[2]])
    assert values[0] == pytest.approx(values[1], rel=1e-4)


@pytest.mark.parametrize("adapter", ["qpeft-r", "qpeft-a", "soft-prompt", "p-tuning", "prompt-tuning"])
def test_adapters_before_the_layers_train_with_it(files, model_folder, adapter):
    assert train.main(command(files, model_folder, FLAG, "--epochs", 1, adapter=adapter)) == 0


@pytest.mark.parametrize("adapter", ["prefix-tuning", "p-tuning-v2"])
def test_keys_of_an_adapters_own_are_refused(last_line, adapter):
    said = last_line(adapter, FLAG)
    assert said.startswith(f"error: {FLAG}: layers under it do not see the keys") and said.endswith("; leave it out")


def test_models_without_it_are_refused(last_line, monkeypatch):
    monkeypatch.setattr(LlamaPreTrainedModel, "supports_gradient_checkpointing", False)
    assert last_line("lora", FLAG) == f"error: {FLAG}: transformers has none for this model; leave it out"


@pytest.mark.parametrize(
    ("adapter", "more", "advised"), [("lora", [], True), ("lora", [FLAG], False), ("prefix-tuning", [], False)]
)
def test_it_is_advised_where_it_is_to_be_had(last_line, monkeypatch, adapter, more, advised):
    def out_of_memory(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(prefix, "means", out_of_memory)
    said = last_line(adapter, "--prefix-cache", "off", *more)
    assert said.startswith("error: out of memory on one sequence of") and "set --max-passage-tokens" in said
    assert (FLAG in said) == advised
