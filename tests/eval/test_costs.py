"""Costs by method, from records of finished steps."""

import dataclasses
import json
import math

import pandas
import pytest

from eval.chain import Chain
from eval.conditions import parse_condition
from eval.costs import costs
from eval.design import FOLDER, load_matrix
from eval.publish import read_measured
from eval.store import Store
from tests.eval import made

MATRIX = load_matrix()


@pytest.fixture
def chain(tmp_path):
    data = made.data_folder(tmp_path / "data", ("nq",), 8)
    made.graded_folder(tmp_path / "dl19", 8, 16)
    return Chain(
        dataclasses.replace(MATRIX.scales["mini"], model="no/model", depth=16),
        data,
        FOLDER / "prompts",
        datasets=MATRIX.datasets,
    )


def found(conditions, chain, tmp_path):
    store = Store(tmp_path / "work")
    made.finish(conditions, chain, store)
    return costs(read_measured(conditions, chain, store), chain, store).set_index("method"), store


def test_what_a_run_made_elsewhere_took_is_not_known(chain, tmp_path):
    """Its step is one that cuts it to the topics: no search."""
    listed = [parse_condition(MATRIX, f"dl19.bm25.{method}") for method in ("first-stage", "zero-shot")]
    cost, _ = found(listed, chain, tmp_path)
    assert math.isnan(cost.loc["First stage"].question_seconds) and math.isnan(cost.loc["First stage"].reranking_bytes)
    assert cost.loc["Zero-shot, plain"].question_seconds == 1 / 8
    searched, _ = found([parse_condition(MATRIX, "nq.bm25.first-stage")], chain, tmp_path)
    assert searched.loc["First stage"].question_seconds == 1 / 8


def test_methods_of_one_title_have_a_row_each(chain, tmp_path):
    one = parse_condition(MATRIX, "nq.bm25.qpeft-a")
    copied = dataclasses.replace(one, method=dataclasses.replace(one.method, name="mine", settings={"margin": 0.5}))
    cost, _ = found([one, copied], chain, tmp_path)
    assert list(cost.index) == ["Q-PEFT-A", "Q-PEFT-A"]


@pytest.mark.parametrize(("given", "known"), [("states", False), ("off", True)])
def test_a_training_that_may_read_anothers_states_has_no_time_of_its_own(chain, tmp_path, given, known):
    chain = dataclasses.replace(chain, training=("--prefix-cache", given))
    listed = [parse_condition(MATRIX, "nq.bm25.qpeft-a")]
    cost, store = found(listed, chain, tmp_path)
    record = json.loads((chain.adapter(listed[0]).folder(store.work) / "step.json").read_text())
    assert given in record["command"] and record["seconds"] == 1.0
    assert pandas.notna(cost.loc["Q-PEFT-A"].training_seconds) == known
