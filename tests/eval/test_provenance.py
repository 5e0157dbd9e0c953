"""Versions beside figures are those that ran the steps."""

import dataclasses
import json
import shutil

import pytest

from eval import provenance, publish
from eval.chain import Chain
from eval.conditions import parse_condition
from eval.design import FOLDER, load_matrix
from eval.store import Store
from eval.versions import versions
from tests.eval import made


@pytest.fixture
def told(mixed, tmp_path):
    """Call it with versions by kind of step for what a table says of its steps' versions; None for what tells none."""
    _, chain, store = mixed
    shutil.copytree(store.work, tmp_path / "work")
    copy = Store(tmp_path / "work")
    conditions = [parse_condition(load_matrix(), f"nq.bm25.{method}") for method in ("first-stage", "zero-shot")]

    def call(**by_kind):
        for step in provenance.steps_of(conditions, chain):
            path = step.folder(copy.work) / "step.json"
            record = json.loads(path.read_text())
            if step.kind in by_kind:
                record["versions"] = by_kind[step.kind]
            if record["versions"] is None:
                del record["versions"]
            path.write_text(json.dumps(record))
        text = publish._commands(conditions, chain, copy)
        return [line for line in text.splitlines() if line.startswith("Versions")]

    return call


def test_one_line_where_all_agree(told):
    assert told() == [f"Versions: {json.dumps(versions())}"]


def test_steps_that_others_ran(told):
    # An index, a sample, a search, judgements, a reranking, and two evaluations.
    older = {"torch": "1"}
    assert told(rerank=[older], judge=[older, versions()], index=None) == [
        "Versions of 5 of 7 steps: " + json.dumps(versions()),
        'Versions of 2 of 7 steps: {"torch": "1"}',
        "Versions of 1 of 7 steps: not in their records",
    ]


def test_who_writes_it_is_no_step(told, monkeypatch):
    monkeypatch.setattr("eval.provenance.versions", lambda: {"torch": "2"})
    assert told() == [
        "Versions of 7 of 7 steps: " + json.dumps(versions()),
        'Versions where this was written: {"torch": "2"}',
    ]


def test_threads_are_told_of_a_set_whose_size_is_not_known(tmp_path):
    """Then no estimate of its operations can be made, but another number of threads rounds differently all the same."""
    matrix = load_matrix()
    one = parse_condition(matrix, "nq.bm25.zero-shot")
    one = dataclasses.replace(one, dataset=dataclasses.replace(one.dataset, name="mine", test_size=0))
    scale = dataclasses.replace(matrix.scales["mini"], model="no/model", topics=0, depth=16)
    chain, store = Chain(scale, made.data_folder(tmp_path / "data", ("nq",), 8), FOLDER / "prompts"), Store(tmp_path)
    made.finish([one], chain, store)
    step = chain.rerank(one)
    assert not step.operations
    store.finish(step, 1.0, threads="2")
    [told] = [ran.command for ran in provenance.ran([step], store)]
    assert " && OMP_NUM_THREADS=2 python -m qpeft_rerank.rerank " in told
