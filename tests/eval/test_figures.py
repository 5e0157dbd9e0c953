"""Figures: series can be told apart, and lines go where their values are."""

import pandas
import pytest
from matplotlib.axes import Axes

from eval.conditions import Condition
from eval.design import load_matrix
from eval.figures import ablation
from eval.figures.style import looks

MATRIX = load_matrix()


def test_no_two_methods_of_the_matrix_look_alike():
    found = looks({method.name: method.kind for method in MATRIX.methods.values()})
    alike = {}
    for name, look in found.items():
        alike.setdefault(look, []).append(name)
    assert [names for names in alike.values() if len(names) > 1] == []
    # The first ones keep what tells their kinds.
    assert found["qpeft-r"].dashes == found["qpeft-a"].dashes == () and found["zero-shot"].dashes == (5, 2)


@pytest.mark.parametrize("values", [[0, 0.3, 0.9], [0.9, 0, 0.3]])
def test_a_line_goes_to_the_right_whatever_the_order_of_values(monkeypatch, values):
    drawn, plot = [], Axes.plot

    def seen(self, x, y, **how):
        drawn.append((list(x), list(y)))
        return plot(self, x, y, **how)

    monkeypatch.setattr(Axes, "plot", seen)
    dataset, stage, method = MATRIX.datasets["nq"], MATRIX.first_stages["bm25"], MATRIX.methods["qpeft-a"]
    conditions = [Condition(dataset, stage, method, "margin", value) for value in values]
    rows = [
        {"dataset": "nq", "dataset_title": "NQ", "first_stage": "bm25", "row": one.row, "title": one.title}
        | {"measure": "R@10", "mean": 10 * one.value, "low": 0.0, "high": 10.0}
        for one in conditions
    ]
    shown = looks({"qpeft-a": "trained"})
    ablation.draw("margin", "margin", values, conditions, pandas.DataFrame(rows), "R@10", shown)
    assert drawn == [([0, 0.3, 0.9], [0, 3, 9])]
