"""A table's files, from finished conditions."""

import dataclasses

import pytest

from eval.conditions import conditions_of
from eval.design import load_matrix
from eval.publish import publish


@pytest.mark.parametrize(("reference", "told"), [("zero-shot", True), ("lora", False)])
def test_a_mark_is_explained_where_its_reference_is_in_the_table(mixed, tmp_path, reference, told):
    _, chain, store = mixed
    matrix = load_matrix()
    table = dataclasses.replace(
        matrix.tables["main"], datasets=["nq", "squad"], methods=["first-stage", "zero-shot", "qpeft-a"]
    )
    publish(
        "main", "T", table.measures, reference, conditions_of(matrix, table), chain, store, matrix, tmp_path / "out"
    )
    text = (tmp_path / "out" / "table.md").read_text()
    assert (f"‡ better than {reference}" in text) == told and "† better than the first stage" in text
