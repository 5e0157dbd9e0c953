"""Steps of data sets that somebody adds: what is a file is known by its content, and what is lacking is told at once."""

import dataclasses

import pytest

from eval.chain import Chain
from eval.conditions import parse_condition
from eval.design import FOLDER, load_matrix
from qpeft_rerank.errors import InputError

MATRIX = load_matrix()


def own(method: str, **changes):
    """A condition of NQ with other fields."""
    condition = parse_condition(MATRIX, f"nq.bm25.{method}")
    return dataclasses.replace(condition, dataset=dataclasses.replace(condition.dataset, **changes))


def chain_of(scale: str = "full", data=None) -> Chain:
    return Chain(dataclasses.replace(MATRIX.scales[scale], model="no/model"), data, FOLDER / "prompts")


@pytest.mark.parametrize("field", ["topics", "qrels", "index"])
def test_a_changed_file_is_another_step(tmp_path, field):
    path = tmp_path / "own"
    if field == "index":
        path.mkdir()
    held = path / "segments_1" if field == "index" else path
    keys = []
    for content in ("one", "two", "one"):
        held.write_text(content)
        keys.append(chain_of().evaluation(own("zero-shot", **{field: str(path)})).key)
    assert keys[0] == keys[2] != keys[1]


def test_judgements_at_scale_mini_are_known_by_content(data, tmp_path):
    path, keys = tmp_path / "qrels.txt", set()
    for content in ("0 0 00 1\n", "0 0 00 0\n"):
        path.write_text(content)
        keys.add(chain_of("mini", data).judgements(own("zero-shot", qrels=str(path))).key)
    assert len(keys) == 2


@pytest.mark.parametrize(
    ("method", "field", "said"),
    [
        ("zero-shot", "topics", "nq: names no test topics for --scale full"),
        (
            "qpeft-a",
            "train",
            r"nq: names nothing to train on \(train and dev, or the set trained_on\) for --scale full",
        ),
        ("qpeft-a", "dev", "nq: names nothing to train on"),
    ],
)
def test_what_a_set_lacks_is_told_before_anything_runs(method, field, said):
    with pytest.raises(InputError, match=said):
        chain_of().evaluation(own(method, **{field: ""}))


def test_runs_in_the_home_folder(data, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "list.nq.trec").write_text("0 Q0 00 1 1.0 x\n")
    condition = own("zero-shot")
    stage = dataclasses.replace(condition.first_stage, name="list", kind="run", path="~/list.{dataset}.trec")
    step = chain_of("mini", data).candidates(dataclasses.replace(condition, first_stage=stage))
    assert str(tmp_path / "list.nq.trec") in step.command(tmp_path)
