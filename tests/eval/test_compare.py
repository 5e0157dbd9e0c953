"""Runs tested against one of them."""

from pathlib import Path

import pytest
from scipy import stats

from eval import compare


def write(path, topics):
    lines = [f"{t} Q0 {d} {i} {10 - i} x" for t, docs in topics.items() for i, d in enumerate(docs, 1)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


@pytest.fixture
def files(tmp_path):
    qrels = tmp_path / "qrels.txt"
    topics = ["nq:1", "nq:2", "nq:3", "squad:1", "squad:2"]
    qrels.write_text("".join(f"{topic} 0 good 1\n" for topic in topics))
    base = write(tmp_path / "base.trec", {topic: ["bad", "worse", "good"] for topic in topics})
    better = write(
        tmp_path / "better.trec",
        {"nq:1": ["good"], "nq:2": ["bad", "good"], "nq:3": ["bad", "worse", "good"], "squad:1": ["good"]},
    )
    return str(qrels), base, better


def cells(text, name):
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if f"| {name} " in line]


def test_means_and_tests_by_set(files, capsys):
    qrels, base, better = files
    args = ["--qrels", qrels, "--baseline", base, "--run", f"new={better}", "--measures", "RR@10"]
    assert compare.main([*args, "--sets"]) == 0
    out = capsys.readouterr().out
    nq, squad, mean = cells(out, "new")
    assert nq[:2] == ["nq", "3"] and nq[3] == f"{100 * (1 + 1 / 2 + 1 / 3) / 3:.2f}"
    p = stats.ttest_rel([1, 1 / 2, 1 / 3], [1 / 3] * 3).pvalue
    assert nq[5] == f"{p:.3f}"
    # A topic that the run lacks counts 0.
    assert squad[3] == "50.00"
    assert mean[3] == f"{100 * ((1 + 1 / 2 + 1 / 3) / 3 + 1 / 2) / 2:.2f}"
    assert compare.main(args) == 0
    (row,) = cells(capsys.readouterr().out, "new")
    assert row[3] == f"{100 * (1 + 1 / 2 + 1 / 3 + 1 + 0) / 5:.2f}"


def test_a_path_may_have_the_sign_that_names_a_run(files, tmp_path, capsys):
    qrels, base, better = files
    (tmp_path / "lr=1").mkdir()
    path = Path(better).rename(tmp_path / "lr=1" / "b.trec")
    for given, name in ((str(path), str(path)), (f"new={path}", "new")):
        assert compare.main(["--qrels", qrels, "--baseline", base, "--run", given, "--measures", "RR@10"]) == 0
        assert len(cells(capsys.readouterr().out, name)) == 1


def test_names_of_runs_are_no_columns(files, tmp_path, capsys):
    qrels, base, better = files
    odd = Path(better).rename(tmp_path / "a|b<c.trec")
    assert compare.main(["--qrels", qrels, "--baseline", base, "--run", str(odd), "--measures", "RR@10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].split(" | ")[2].endswith("/a\\|b&lt;c.trec") and len(lines[-1].split(" | ")) == 6


def test_faults(files, tmp_path, capsys):
    qrels, base, _ = files
    other = write(tmp_path / "other.trec", {"7": ["good"]})
    for run, said in ((other, "none of its topics"), (base, "named twice")):
        assert compare.main(["--qrels", qrels, "--baseline", base, "--run", run]) == 2
        assert said in capsys.readouterr().err
    plain = tmp_path / "plain.txt"
    plain.write_text("7 0 good 1\n")
    assert compare.main(["--qrels", str(plain), "--baseline", other, "--run", f"b={other}", "--sets"]) == 2
    assert "names no set" in capsys.readouterr().err
