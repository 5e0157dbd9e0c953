"""Curves and overheads: every point measured once, told in tables and plots."""

import pytest

from eval.benchmarks import overheads, scaling, speed

SMALL = {
    "batch": (64, 128),
    "length": (4, 8),
    "depth": (5, 20),
    "repeats": (1, 4),
    "size": ("0.1M",),
    "pairs": (100, 300),
}


def command(data, model, output, *more):
    words = ["--data", data, "--model", model, "--pairs", "8", "--repeats", "2", "--output", output, *more]
    return speed.main([str(word) for word in words])


@pytest.mark.slow
def test_scaling(data, model, here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("eval.benchmarks.growth._VALUES", SMALL)
    output = tmp_path / "grown.md"
    assert command(data, model, output, "--scaling") == 0
    shown = capsys.readouterr().out
    assert shown == output.read_text()
    points = 2 + 2 + 2 * 2 + 2 * 2 + 1 + 2
    jobs = [job for job in here if job["kind"] == "scale"]
    assert len(jobs) == 2 * points
    assert sum(line.startswith("| ") and " auto | 1 | " in line for line in shown.splitlines()) == 2 + 2 + 2
    assert sum(line.startswith("| ") and " off | 1 | " in line for line in shown.splitlines()) == points - 6
    for axis in SMALL:
        picture = tmp_path / f"grown.{axis}.svg"
        assert f"({picture.name})" in shown
        assert "</svg>" in picture.read_text()
    here.clear()
    assert command(data, model, output, "--scaling") == 0
    assert {job["kind"] for job in here} == {"prepare"}
    # All of a sample: the first of its pairs have more topics a passage than the run.
    depths = [job for job in jobs if job["axis"] == "depth"]
    assert depths and all(job["pairs"] > 8 for job in depths)
    # Some of the curves: nothing is prepared for the others.
    here.clear()
    capsys.readouterr()
    assert command(data, model, output, "--scaling", "--curves", "pairs") == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line.startswith("###")] == ["### Pairs of a run"]
    assert [job["kind"] for job in here] == ["prepare"]
    assert command(data, model, output, "--curves", "pairs") == 2


@pytest.mark.slow
def test_overheads(data, model, here, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("eval.benchmarks.growth._VALUES", SMALL)
    monkeypatch.setattr("eval.benchmarks.growth._LINES", 3000)
    monkeypatch.setattr("eval.benchmarks.overheads._start", lambda job: {"first_batch": 1.5, "first_score": 2.25})
    assert command(data, model, tmp_path / "over.md", "--overheads") == 0
    shown = capsys.readouterr().out
    assert "reading a run of 3,000 lines" in shown
    assert "| from the start to the first score on disk | 2.2 |" in shown
    assert sum(job["kind"] == "overhead" for job in here) == 6
    here.clear()
    assert command(data, model, tmp_path / "over.md", "--overheads") == 0
    assert {job["kind"] for job in here} == {"prepare"}
    # Both at once read the same sample.
    assert command(data, model, tmp_path / "both.md", "--scaling", "--curves", "size", "--overheads") == 0


def job(data, model, tmp_path, **more):
    return {"threads": 1, "model": str(model), "data": str(data), "folder": str(tmp_path), **more}


def test_the_points_differ_in_one_thing_only(data, model, tmp_path):
    from eval.benchmarks.prepare import prepare

    asked = job(data, model, tmp_path, run=None, workloads=["dl19"], pairs=200, seed=1, depth=100)
    file = prepare(asked)["workloads"]["dl19"]["file"]
    shared = {"workload": file, "pairs": 16, "share": "off"}

    def measured(axis, value, **more):
        return scaling.scale(job(data, model, tmp_path, axis=axis, value=value, **(shared | more)))

    short, long = measured("length", 16), measured("length", 64)
    assert (short["pairs"], long["pairs"]) == (128, 32)
    few, many = measured("repeats", 1, share="auto"), measured("repeats", 8, share="auto")
    assert few["pairs"] == many["pairs"] == 16
    assert many["operations"] < few["operations"]
    assert measured("pairs", 300, share="auto")["pairs"] == 300


@pytest.mark.parametrize("name", ["0.1M", "7M"])
def test_random_models_have_the_size_of_their_name(name, model):
    made = scaling.random_model(str(model), name).model
    body = sum(parameter.numel() for parameter in made.model.layers.parameters())
    assert body == pytest.approx(float(name.removesuffix("M")) * 1e6, rel=0.3)


def test_the_journals_time_is_part_of_the_whole(data, model, tmp_path):
    from eval.benchmarks.prepare import prepare

    asked = job(data, model, tmp_path, run=None, workloads=["dl19"], pairs=40, seed=1, depth=100)
    file = prepare(asked)["workloads"]["dl19"]["file"]
    found = overheads.overhead(job(data, model, tmp_path, what="journal", workload=file))
    assert 0 < found["journal"] < found["score"][0]
    assert (tmp_path / "speed.journal").read_text().count('"sum"') == found["pairs"] == 40


@pytest.mark.slow
def test_the_first_score_comes_after_the_start(data, model, tmp_path):
    found = overheads.overhead(job(data, model, tmp_path, what="start"))
    assert 0 < found["first_batch"] <= found["first_score"]
