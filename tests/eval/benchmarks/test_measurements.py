"""Measurements stay in their file, and are known by what decided them."""

import json

import pytest

from eval.benchmarks import machine
from eval.benchmarks.measurements import Measurements, Once
from qpeft_rerank.errors import InputError


def test_what_is_kept_is_found_again(tmp_path):
    file = tmp_path / "m.json"
    kept = Measurements(file, {"cores": 2})
    assert kept.get("a") is None
    kept.add("a", {"score": [1.0, 2.0]})
    again = Measurements(file, {"cores": 2})
    assert again.get("a") == {"score": [1.0, 2.0]}
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"format": 1, "machine": {"cores": 2}, "measurements": []}'])
def test_other_files_are_refused(text, tmp_path):
    file = tmp_path / "m.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"name another file with --output"):
        Measurements(file, {"cores": 2})


def test_another_machine_is_refused(tmp_path):
    Measurements(tmp_path / "m.json", {"cores": 2}).add("a", 1)
    with pytest.raises(InputError, match="another machine"):
        Measurements(tmp_path / "m.json", {"cores": 4})


def test_a_full_disk_is_named(tmp_path):
    with pytest.raises(InputError, match=r"cannot be written .*--output"):
        Measurements(tmp_path / "none" / "m.json", {}).add("a", 1)


def test_a_job_is_done_once_for_all_that_decides_it(tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr(
        "eval.benchmarks.measurements.run_job", lambda job, python: done.append(job) or {"n": len(done)}
    )
    once = Once(Measurements(tmp_path / "m.json", {}), "model")
    job = {"kind": "measure", "way": "ours", "threads": 1, "workload": "/tmp/one.json"}
    assert once("a", job, "data") == once("a", {**job, "workload": "/tmp/two.json"}, "data") == {"n": 1}
    changes = [{**job, "threads": 2}, {**job, "settings": {"dtype": "bfloat16"}}, {**job, "repeat": 1}]
    assert [once("a", change, "data")["n"] for change in changes] == [2, 3, 4]
    assert once("a", job, "other data")["n"] == 5
    assert Once(once.kept, "other model")("a", job, "data")["n"] == 6
    monkeypatch.setattr("eval.benchmarks.measurements.code_digest", lambda folder: "other code")
    later = Once(once.kept, "model")
    rival = {**job, "way": "loop"}
    assert later("a", job, "data")["n"] == 7
    assert later("b", rival, "data") == once("b", rival, "data")  # our code changes nothing of a rival's time
    assert len(json.loads((tmp_path / "m.json").read_text())["measurements"]) == 8


def test_the_machine_is_described_without_its_name():
    import platform

    found = machine.describe()
    assert found == machine.describe()
    assert found["torch"]
    assert found["cores"] >= 1
    assert platform.node() not in json.dumps(found).replace("Linux", "") or len(platform.node()) < 3
    assert str(found["cores"]) in machine.sentence(found)
