"""A device that fails in the middle of a training: one line, and the same command goes on."""

import torch

from qpeft_rerank import train
from qpeft_rerank.training.loop import Trainer
from tests.train.words import command


def test_it_is_one_line_and_the_checkpoint_is_kept(files, model_folder, monkeypatch, capsys):
    words = command(files, model_folder, "--checkpoint-steps", 1, "--epochs", 1)
    assert train.main(words) == 0
    whole = (files / "out" / "adapter_model.safetensors").read_bytes()
    (files / "out").rename(files / "whole")
    means, calls = Trainer._mean_log_probs, []

    def failing(self, sequences):
        calls.append(1)
        if len(calls) == 3:
            raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel errors")
        return means(self, sequences)

    monkeypatch.setattr(Trainer, "_mean_log_probs", failing)
    capsys.readouterr()
    assert train.main(words) == 2
    told = capsys.readouterr().err
    assert told.splitlines()[-1] == (
        "error: the device failed (CUDA error: an illegal memory access was encountered); the same command goes on "
        "from the last checkpoint; where it fails again, take another --device"
    )
    assert "Traceback" not in told
    assert train.main(words) == 0 and "going on after step" in capsys.readouterr().err
    assert (files / "out" / "adapter_model.safetensors").read_bytes() == whole
