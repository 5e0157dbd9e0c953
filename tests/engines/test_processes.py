"""Which device each of several processes takes; that they work together is tested where they do."""

from types import SimpleNamespace

import pytest
import torch

from qpeft_rerank.engines.processes import Team
from tests.refusal import refusal


@pytest.fixture
def team() -> Team:
    """The second of two processes of one machine."""
    made = object.__new__(Team)
    made._state = SimpleNamespace(local_process_index=1)
    return made


@pytest.mark.parametrize("asked", ["auto", "cpu", "cuda"])
@pytest.mark.parametrize("use_cpu", [False, True])
@pytest.mark.parametrize("gpus", [0, 2])
def test_a_training_takes_the_device_that_scoring_takes(
    team: Team, asked: str, use_cpu: bool, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setenv("ACCELERATE_USE_CPU", str(use_cpu).lower())
    own, trains = team.device(asked), team.training_device(asked)
    if gpus and not use_cpu and asked != "cpu":
        assert own == trains == "cuda:1"
    else:
        # Gradients travel between processors there, so a GPU of another kind would be of no use.
        assert (own, trains) == ("auto", "cpu") or own == trains


@pytest.mark.parametrize("asked", ["mps", "cuda:0"])
def test_what_is_no_device_of_each_is_refused(team: Team, asked: str) -> None:
    assert refusal(team.training_device, asked).startswith(f"--device {asked}: ")
