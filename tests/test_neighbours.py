"""Threads that wait make room for others' work, unless someone said how they shall wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qpeft_rerank import neighbours
from qpeft_rerank.neighbours import SWITCHES, make_room, processors, running


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in (*SWITCHES, "OMP_NUM_THREADS"):
        monkeypatch.setenv(switch, "")  # so that what a test sets is undone after it
        monkeypatch.delenv(switch)


def test_others_are_counted_without_ourselves(tmp_path: Path) -> None:
    (tmp_path / "loadavg").write_text("0.50 0.40 0.30 4/321 1234\n")
    assert running(tmp_path / "loadavg") == 3
    assert running(tmp_path / "absent") == 0
    (tmp_path / "loadavg").write_text("odd\n")
    assert running(tmp_path / "loadavg") == 0


def test_busy_neighbours_are_seen() -> None:
    command = [sys.executable, "-c", "print(flush=True)\nwhile True: pass"]
    several = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(processors())]
    try:
        for one in several:
            assert one.stdout is not None and one.stdout.readline()
        make_room()
        # Only Linux tells how many threads run: elsewhere nothing may change.
        assert os.environ.get("OMP_WAIT_POLICY") == ("PASSIVE" if Path("/proc/loadavg").exists() else None)
    finally:
        for one in several:
            one.kill()
            one.communicate()


@pytest.mark.parametrize(("others", "told"), [(0, None), (processors(), "PASSIVE")])
def test_only_where_processors_are_taken(monkeypatch: pytest.MonkeyPatch, others: int, told: str | None) -> None:
    monkeypatch.setattr(neighbours, "running", lambda: others)
    make_room()
    assert os.environ.get("OMP_WAIT_POLICY") == told


@pytest.mark.parametrize("switch", [*SWITCHES, "OMP_NUM_THREADS"])
def test_who_says_how_is_not_overruled(monkeypatch: pytest.MonkeyPatch, switch: str) -> None:
    monkeypatch.setattr(neighbours, "running", lambda: 1000)
    monkeypatch.setenv(switch, "1")
    make_room()
    assert os.environ.get("OMP_WAIT_POLICY") == ("1" if switch == "OMP_WAIT_POLICY" else None)
