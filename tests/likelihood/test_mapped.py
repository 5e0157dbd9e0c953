"""Rows looked up in a table that a file holds: the same numbers, and never most of the table in memory."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mapping import TOLD, resident
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from qpeft_rerank.likelihood import mapped
from qpeft_rerank.likelihood.mapped import looked_up

_ROWS, _WIDTH = 16384, 1024  # 64 MB


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "table.safetensors"
    save_file({"table": torch.arange(float(_ROWS * _WIDTH)).view(_ROWS, _WIDTH)}, path)
    return path


def table_of(path: Path) -> nn.Embedding:
    with safe_open(path, "pt") as file:
        return nn.Embedding.from_pretrained(file.get_tensor("table"))


@pytest.mark.parametrize("shape", [(1,), (3, 5), (2, 0), (700,)])
@pytest.mark.parametrize("kept", [1, 3 * 4 * _WIDTH, 16 * 1024 * 1024])
def test_the_rows_that_the_layer_has(path: Path, monkeypatch: pytest.MonkeyPatch, shape: tuple[int], kept: int) -> None:
    """Wherever the parts end that are read at a time."""
    monkeypatch.setattr(mapped, "_TABLE_BYTES", kept)
    ids = torch.randint(0, _ROWS, shape, generator=torch.manual_seed(1))
    embedding = table_of(path)
    assert torch.equal(looked_up(embedding, ids), embedding(ids))


@pytest.mark.parametrize("outside", [-1, _ROWS])
def test_an_id_that_the_table_lacks_is_refused(path: Path, outside: int) -> None:
    with pytest.raises(IndexError):
        looked_up(table_of(path), torch.tensor([3, outside]))


def test_a_layer_that_does_more_than_look_up_is_asked_itself(path: Path) -> None:
    class Scaled(nn.Embedding):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return super().forward(ids) * 2

    ids, embedding = torch.arange(7), table_of(path)
    assert torch.equal(looked_up(Scaled.from_pretrained(embedding.weight), ids), embedding(ids) * 2)


def test_gradients_reach_a_table_that_trains() -> None:
    embedding = nn.Embedding(9, 4)
    looked_up(embedding, torch.tensor([2, 2, 5])).sum().backward()
    assert embedding.weight.grad is not None
    assert embedding.weight.grad.sum(1).tolist() == [0, 0, 8, 0, 0, 4, 0, 0, 0]


_PEAK = """
import sys, torch
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_mapped import table_of
from qpeft_rerank.likelihood.mapped import looked_up

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM:"))

embedding, ids = table_of(Path(sys.argv[1])), torch.arange(0, 16384, 32)
looked_up(torch.nn.Embedding(64, 8), torch.arange(9))
before = peak()
looked_up(embedding, ids) if sys.argv[2] == "looked_up" else embedding(ids)
print(peak() - before)
"""


# Nothing to ask elsewhere: likelihood/mapped.py gives pages back on Linux alone, which alone has peaks in /proc.
@pytest.mark.skipif(not TOLD, reason="pages are given back, and a process's peak of memory told, on Linux alone")
def test_no_more_of_the_table_is_in_memory_than_a_part(path: Path) -> None:
    """Every 32nd row: each brings the pages around it, so that the plain layer has all 64 MB in memory."""

    def peak(way: str) -> int:
        here = Path(__file__).parent
        command = [sys.executable, "-c", _PEAK, str(path), way, str(here), str(here.parent)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak("looked_up") < 28 * 1024
    assert peak("embedding") > 48 * 1024


def test_nothing_of_the_table_stays(path: Path) -> None:
    embedding = table_of(path)
    looked_up(embedding, torch.arange(0, _ROWS, 32))
    assert resident(path) < 512
