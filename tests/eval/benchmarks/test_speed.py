"""The command: every row measured once, nothing twice, faults in a line."""

import json

import pytest

from eval.benchmarks import speed
from eval.benchmarks.contestants import CONTESTANTS

# Without those that need a C++ compiler, and a minute each.
TAKEN = [row for row in CONTESTANTS if not row.foreign and row.dtype == "float32" and not row.extra]
ROWS = [row.name for row in TAKEN]
WHERE = ("dl19", "trivia")
COUNT = sum(len(set(row.workloads) & set(WHERE)) for row in TAKEN)


def command(data, model, output, *more):
    words = ["--data", data, "--model", model, "--pairs", "12", "--repeats", "2", "--output", output, *more]
    return speed.main([str(word) for word in words])


@pytest.mark.slow
def test_everything_is_measured_once_and_agrees(data, model, here, tmp_path, capsys):
    output = tmp_path / "out.md"
    asked = ["--rows", *ROWS, "llama.cpp", "--workloads", *WHERE]
    assert command(data, model, output, *asked) == 0
    shown = capsys.readouterr()
    assert shown.out == output.read_text()
    assert "### trivia, 1 thread" in shown.out
    lines = [line.split(" | ") for line in shown.out.splitlines() if line.count("|") > 10]
    scored = [line for line in lines if line[12:] and line[12][0].isdigit()]
    assert len(scored) == COUNT
    assert all(float(line[12]) < 1e-3 for line in scored)
    assert all(float(line[13].strip(" |")) > 0.99 for line in scored)
    assert shown.out.count("Not measured: llama.cpp") == 2
    measured = [job for job in here if job["kind"] == "measure"]
    assert len(measured) == 2 * COUNT
    # Rows alternate: no row is measured again before all others were.
    assert len({(job["row"], job["workload"]) for job in measured[:COUNT]}) == COUNT
    here.clear()
    assert command(data, model, output, *asked) == 0
    assert [job["kind"] for job in here] == ["prepare"]
    assert capsys.readouterr().out == shown.out
    assert command(data, model, output, "--rows", "plain", "--workloads", "dl19", "--repeats", "3") == 0
    assert [job["kind"] for job in here[1:]].count("measure") == 1


def test_a_dtype_without_a_unit_is_left_out(data, model, here, tmp_path, monkeypatch, capsys):
    def rate(job):
        return {"square": 1e9, "layers": 1e9 if job["dtype"] == "float32" else rate.other}

    monkeypatch.setattr("eval.benchmarks.ceiling.ceiling", rate)
    rows = ["--rows", "plain", "plain-bf16", "--workloads", "dl19"]
    rate.other = 0.1e9
    assert command(data, model, tmp_path / "slow.md", *rows) == 0
    assert "has no bfloat16 unit: its products take 10 times as long" in capsys.readouterr().out
    rate.other = 0.5e9
    assert command(data, model, tmp_path / "quick.md", *rows) == 0
    assert "| qpeft_rerank, plain, bfloat16 |" in capsys.readouterr().out


@pytest.mark.slow
def test_lower_precisions_and_the_certified_row_are_measured(data, model, here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("eval.benchmarks.ceiling.ceiling", lambda job: {"square": 1e9, "layers": 1e9})
    names = ["plain", "plain-mixed", "shared-mixed", "r-mixed", "a-mixed", "certified"]
    words = ["--rows", *names, "--workloads", "dl19", "trivia", "dl19-topics", "--repeats", "1"]
    assert command(data, model, tmp_path / "out.md", *words) == 0
    shown = capsys.readouterr().out
    assert "### dl19-topics, 1 thread" in shown
    assert "| qpeft_rerank, mixed, first 10 certified |" in shown
    assert [job["row"] for job in here if job["kind"] == "measure"].count("plain-mixed") == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rows", "nope"], "--rows nope: there are"),
        (["--rows", "certified", "--workloads", "dl19"], "--rows certified: is measured on none of --workloads dl19"),
        (["--workloads", "nope"], "--workloads nope: there are dl19, trivia"),
        (["--output", "out.txt"], "ends in .md"),
        (["--output", "none/out.md"], "does not exist"),
        (["--data", "/nonexistent"], "--data /nonexistent: no such folder"),
    ],
)
def test_faults(words, said, data, model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(data, model, "out.md", *words) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.count("\n") == 1
    assert not shown.out


@pytest.mark.slow
def test_jobs_have_processes_of_their_own(data, model, tmp_path, capsys):
    output = tmp_path / "out.md"
    words = ["--rows", "plain", "one-by-one", "--workloads", "dl19", "--pairs", "4", "--repeats", "1"]
    assert command(data, model, output, *words) == 0
    (found,) = [
        value
        for key, value in json.loads(output.with_suffix(".json").read_text())["measurements"].items()
        if key.startswith("dl19 plain")
    ]
    assert found["process_wall"] > found["score"][0] + found["load"][0]
    assert found["peak_mb"] >= found["loaded_mb"] > found["model_mb"] > 0
    (tmp_path / "empty").mkdir()
    assert command(data, tmp_path / "empty", output, *words) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: prepare: {tmp_path / 'empty'}: no config.json")
