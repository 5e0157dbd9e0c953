"""Agreement and the table's arithmetic."""

import pytest

from eval.benchmarks.agreement import largest_gap, rank_agreement
from eval.benchmarks.contestants import Contestant, choose
from eval.benchmarks.table import Results, render
from qpeft_rerank.errors import InputError


def test_the_largest_gap_is_per_token():
    assert largest_gap([-1.0, -8.0], [-1.5, -6.0], [1, 10]) == pytest.approx(0.5)


def test_rankings_agree_within_topics():
    reference = [-1.0, -2.0, -3.0, -9.0, -8.0]
    topics, tokens = ["a", "a", "a", "b", "b"], [1, 1, 1, 4, 4]
    assert rank_agreement(topics, [-11, -12, -13, -2, -1], reference, tokens) == 1
    assert rank_agreement(topics, [-1, -2, -3, -1, -2], reference, tokens) == pytest.approx(0)
    assert rank_agreement(topics, [-1, -1, -1, -1, -1], [-1] * 5, tokens) == 1
    # Without two pairs of any topic, all are one ranking, by nats per token.
    assert rank_agreement(["a", "b", "c"], [-1, -6, -3], [-1, -8, -9], [1, 4, 1]) == pytest.approx(1)


def entry(seconds, scores, batch=None, **more):
    return {
        "pairs": 2,
        "score": [seconds, seconds],
        "load": [1.0, 1.0],
        "process_wall": 5.0,
        "process_cpu": 4.0,
        "peak_mb": 900.0,
        "model_mb": 500.0,
        "scores": scores,
        "batch": batch,
    } | more


FACTS = {
    "about": "A set",
    "pairs": 2,
    "tokens": 10.0,
    "repeats": 2.0,
    "repeated": 0.25,
    "whole_pairs": 1000,
    "whole_tokens": 11.0,
    "whole_repeats": 1.9,
    "whole_repeated": 0.24,
}


def test_the_table():
    slow, fast = Contestant("r", "rival", "loop", ("w",)), Contestant("s", "another", "loop", ("w",))
    ours = Contestant("o", "ours", "ours", ("w",), {"dtype": "float32"}, shares=True)
    foreign = Contestant("t", "t5", "package", ("w",))
    results = Results({"dl19": FACTS})
    amounts = {"whole": {"operations": 40e9}, "distinct": {"operations": 30e9}}
    results.references["dl19", None] = {"scores": [-4.0, -6.0], "tokens": [2, 2], "topics": ["1", "1"], **amounts}
    results.ceilings[1, "float32"] = [{"square": 40e9, "layers": value} for value in (10e9, 20e9, 60e9)]
    results.rows[1, "dl19"] = [
        (slow, [entry(8.0, [-4.0, -6.0], 4) for _ in range(3)]),
        (fast, [entry(seconds, [-4.0, -6.0]) for seconds in (2.0, 4.0, 100.0)]),
        (ours, [entry(1.0, [-4.0, -6.2]), entry(1.0, [-4.0, -6.0]), entry(1.0, [-6.0, -4.0])]),
        (foreign, [entry(4.0, [1.0, 2.0], operations=80e9)]),
    ]
    results.skipped[1, "dl19"] = {"absent": "not installed"}
    text = "\n".join(render(results, "a machine", "a model", 3))
    rows = {
        line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ") for line in text.splitlines() if "|" in line
    }
    assert rows["1"] == ["1", "float32", "40.0", "20.0"]
    assert rows["rival"][1:5] == ["4", "0.25 (0.25, 0.25)", "0.50", "8.0"]
    assert rows["another"][2:4] == ["0.50 (0.02, 1.00)", "1.00"]
    assert rows["ours"][3] == "4.00"
    assert rows["ours"][9:] == ["900", "400", "0.75", "1.0e+00", "-1.0000"]
    assert rows["rival"][11] == "0.12"  # 40e9 operations in 8 s of 40e9 a second
    assert rows["t5"][3] == ""
    assert rows["t5"][11:] == ["0.50", "other model", "other model"]
    assert "Not measured: absent (not installed)" in text


def test_rows_are_chosen_by_name():
    assert [row.name for row in choose(["plain", "upr"])] == ["upr", "plain"]
    assert len(choose(None)) == len({row.name for row in choose(None)}) > 10
    assert "compiled" not in {row.name for row in choose(None)}
    assert [row.name for row in choose(["compiled"])] == ["compiled"]
    with pytest.raises(InputError, match="--rows nope: there are llm-qlm"):
        choose(["plain", "nope"])


def test_rows_that_had_to_wait_are_told():
    rows = [Contestant(name, name, "loop", ("w",)) for name in ("calm", "busy")]
    results = Results({"dl19": FACTS})
    amounts = {"whole": {"operations": 40e9}, "distinct": {"operations": 30e9}}
    results.references["dl19", None] = {"scores": [-4.0, -6.0], "tokens": [2, 2], "topics": ["1", "1"], **amounts}
    results.ceilings[1, "float32"] = [{"square": 40e9, "layers": 20e9}]
    results.rows[1, "dl19"] = [
        (rows[0], [entry(8.0, [-4.0, -6.0])]),
        (rows[1], [entry(8.0, [-4.0, -6.0], score=[8.0, 7.0])]),
    ]
    (told,) = [line.strip() for line in render(results, "a machine", "a model", 1) if "machine was busy" in line]
    assert told.endswith("for busy.")
