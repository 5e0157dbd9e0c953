"""The shares of the time are shares, and the parts that must be there are."""

from pathlib import Path

import pytest

from eval.benchmarks import profile


def test_parts_add_up(data: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(data), "--model", str(model), "--pairs", "20", "--output", str(tmp_path / "p.md")]
    assert profile.main(words) == 0
    text = (tmp_path / "p.md").read_text()
    assert capsys.readouterr().out == text
    rows = [row.strip("|").split("|") for row in text.splitlines() if row.startswith("|")]
    parts = {row[0].strip(): [float(cell.split()[0]) for cell in row[1:]] for row in rows[2:]}
    *shares, pair = parts.values()
    for column in range(2):
        assert sum(share[column] for share in shares) == pytest.approx(100, abs=1)
        assert pair[column] > 0
    for name in ("products of the layers and the head", "attention", "norms and rotary positions"):
        assert min(parts[name]) > 0


def test_data_must_be_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert profile.main(["--data", str(tmp_path), "--output", str(tmp_path / "p.md")]) == 2
    assert "--data is the folder that holds dl19" in capsys.readouterr().err
