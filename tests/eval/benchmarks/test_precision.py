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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("trivia.trec", "--runs trivia.trec: give SET=FILE"),
        ("trivia={}/absent.trec", "absent.trec: no such file"),
        ("trivia={}/other.trec", "other.trec: none of its topics is among those of"),
    ],
)
def test_runs_are_looked_at_before_any_is_scored(
    judged: Path,
    model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: str,
    said: str,
) -> None:
    monkeypatch.setattr(precision, "_scores", lambda *_: pytest.fail("a run was scored"))
    (tmp_path / "other.trec").write_text("x1 Q0 d1 1 1.0 x\n")
    words = ["--data", str(judged), "--model", str(model), "--output", str(tmp_path / "p.md")]
    assert precision.main([*words, "--runs", given.format(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
