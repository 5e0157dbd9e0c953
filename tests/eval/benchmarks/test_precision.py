"""The precision report counts what it says, and a second call reads what the first one scored."""

from pathlib import Path

import pytest

from eval.benchmarks import precision


@pytest.fixture
def judged(data: Path) -> Path:
    lines = [f"{topic} 0 d{topic * 20 + rank} 1\n" for topic in range(12) for rank in range(0, 20, 3)]
    (data / "dl19" / "qrels.txt").write_text("".join(lines))
    return data


def report(judged: Path, model: Path, folder: Path, *more: str) -> list[list[str]]:
    words = ["--data", str(judged), "--model", str(model), "--output", str(folder / "precision.md"), "--limit", "4"]
    assert precision.main([*words, *more]) == 0
    head, delimiters, *lines = (folder / "precision.md").read_text().splitlines()[2:]
    # A bar in a title would be a column more, and then Markdown sees no table at all.
    assert {line.count("|") for line in (head, *lines)} == {delimiters.count("|")}
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_errors_and_certificates(judged: Path, model: Path, tmp_path: Path) -> None:
    runs = f"trivia={judged / 'trivia.trec'}"
    rows = report(judged, model, tmp_path, "--runs", runs)
    assert [row[:3] for row in rows] == [
        ["dl19", "mixed", "80"],
        ["dl19", "bfloat16", "80"],
        ["trivia", "mixed", "80"],
        ["trivia", "bfloat16", "80"],
    ]
    for row in rows:
        mean, largest, tau = map(float, row[3:6])
        assert 0 < mean <= largest and -1 <= tau <= 1
        plain, certified = (int(cell.removesuffix(" of 4")) for cell in (row[6], row[11]))
        assert plain <= certified  # a certified top ten is float32's as far as errors are as large as those met
    kept = {path.name: path.read_bytes() for path in tmp_path.glob("*.journal")}
    assert len(kept) == 6
    assert report(judged, model, tmp_path, "--runs", runs) == rows
    assert {path.name: path.read_bytes() for path in tmp_path.glob("*.journal")} == kept  # nothing was scored again


def test_runs_are_named(judged: Path, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", str(judged), "--model", str(model), "--output", str(tmp_path / "p.md"), "--runs", "trivia.trec"]
    assert precision.main(words) == 2
    assert "give SET=FILE" in capsys.readouterr().err
