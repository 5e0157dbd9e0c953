"""Shifts: what a method changes in the model's scores, beside the first stage and the judgements."""

import dataclasses
import shutil

import numpy
import pytest
from scipy import stats

from eval import shifts, tables
from eval.chain import Chain
from eval.commands import Commands
from eval.conditions import Condition, conditions_of, parse_condition
from eval.design import FOLDER, load_matrix
from eval.mixing import Scored, scored_of
from eval.store import Store
from qpeft_rerank.trec.runs import Hit
from tests.eval import made

FIRST = {"t": [Hit("a", 4.0, 1), Hit("b", 3.0, 2), Hit("c", 2.0, 3), Hit("d", 1.0, 4)]}
QRELS = {"t": {"a": 0, "b": 1, "c": 0, "d": 1}}
ALONE = {"t": {"a": -9.0, "b": -5.0, "c": -7.0, "d": -6.0}}


def scored(likelihood, qrels=QRELS):
    return Scored(FIRST, likelihood, qrels, ("t",))


def shifted(**by):
    return scored({"t": {docid: score + by[docid] for docid, score in ALONE["t"].items()}})


def test_what_is_compared():
    # The first stage's scores themselves: overlap and nothing else; b and d are at 3 and 1, a and c at 4 and 2.
    ((first, alone, lift),) = shifts.shifts(scored(ALONE), shifted(a=4, b=3, c=2, d=1))
    assert (first, lift) == (1.0, -1.0) and alone == pytest.approx(-0.4)
    # Scores twice as far apart: the model's own order, sharpened.
    ((first, alone, lift),) = shifts.shifts(scored(ALONE), shifted(**ALONE["t"]))
    assert alone == 1.0 and first == pytest.approx(-0.4) and lift == 2.5


def test_data_sets_count_alike_in_the_mean_and_its_p():
    few, many = numpy.array([[0, 0, 4.0], [0, 0, 2.0]]), numpy.array([[0, 0, -1.0]] * 8 + [[0, 0, -2.0]] * 8)
    one, other = (shifts._record([found]) for found in (few, many))
    both = shifts._record([few, many])
    lift = shifts.COLUMNS[2]
    assert (one[lift], other[lift], both[lift]) == ("+3.00", "-1.50", "+0.75")
    # Of all topics as they come the mean is -1.0, and far from chance.
    expected = stats.ttest_1samp([4 * 4.5, 2 * 4.5, *[-1 * 9 / 16] * 8, *[-2 * 9 / 16] * 8], 0).pvalue
    assert both["p"] == tables.p_value(float(expected)) and both["Topics"] == "18"


def test_first_stages_are_kept_apart():
    matrix = load_matrix()
    other = dataclasses.replace(matrix.first_stages["bm25"], name="x", title="X")
    one = parse_condition(matrix, "nq.bm25.qpeft-a")
    rows = [
        (dataclasses.replace(one, dataset=matrix.datasets[data], first_stage=stage), numpy.array([[0, 0, lift]] * 4))
        for data, stage, lift in (
            ("nq", one.first_stage, 1.0),
            ("squad", one.first_stage, 3.0),
            ("nq", other, 5.0),
            ("squad", other, 7.0),
        )
    ]
    found = shifts.summary(rows)
    means = found[found.Data == "Mean"]
    assert list(means["First stage"]) == ["BM25", "X"] and list(means.Topics) == ["8", "8"]
    assert list(means[shifts.COLUMNS[2]]) == ["+2.00", "+6.00"]
    assert "First stage" not in shifts.summary(rows[:2])


def test_two_methods_of_one_title_have_means_of_their_own():
    matrix = load_matrix()
    rows = []
    for name, value in (("qpeft-a", 1.0), ("mine", 5.0)):
        method = dataclasses.replace(matrix.methods["qpeft-a"], name=name)
        for data in ("nq", "squad"):
            one = Condition(matrix.datasets[data], matrix.first_stages["bm25"], method)
            rows.append((one, numpy.full((4, 3), value)))
    found = shifts.summary(rows)
    assert list(found[found.Data == "Mean"][shifts.COLUMNS[2]]) == ["+1.00", "+5.00"]


def test_topics_that_tell_nothing():
    relevant = {"t": dict.fromkeys("abcd", 1)}
    for base, method in (
        (scored(ALONE, relevant), shifted(a=1, b=2, c=3, d=4)),
        (scored(ALONE, {"t": {"elsewhere": 1}}), shifted(a=1, b=2, c=3, d=4)),
        (scored(ALONE), scored(ALONE)),
    ):
        assert shifts.shifts(base, method).shape == (0, 3)


def test_command(mixed_words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Commands, "__call__", lambda *_: pytest.fail("ran a step"))
    assert shifts.main(mixed_words) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "out" / "table.md").read_text().endswith(printed.rstrip() + "\n")
    assert [line.split("|")[1].strip() for line in printed.splitlines() if "Q-PEFT-A" in line] == [
        "NQ",
        "SQuAD",
        "Mean",
    ]
    # Made-up runs give relevant passages 2.0 nats alone and 2.9 with the adapter.
    lift = float(next(line for line in printed.splitlines() if line.startswith("| Mean")).split("|")[5])
    assert 0.3 < lift < 1.5


def test_another_model_is_compared_with_itself(tmp_path, monkeypatch, capsys):
    """Not with the scale's model, which is finished here, too."""
    monkeypatch.setattr(Commands, "__call__", lambda *_: pytest.fail("ran a step"))
    folder = tmp_path / "matrix"
    shutil.copytree(FOLDER, folder)
    rest = "datasets: [nq], first_stages: [bm25], methods: [zero-shot, qpeft-a], measures: [R@10]"
    table = f"models: {{title: M, {rest}, vary: {{setting: model, values: [no/small, no/large]}}}}\n"
    (folder / "tables.yaml").write_text((folder / "tables.yaml").read_text() + table)
    matrix = load_matrix(folder)
    data = made.data_folder(tmp_path / "data", ("nq",), 8)
    scale = dataclasses.replace(matrix.scales["mini"], model="no/model", depth=16)
    chain, store = Chain(scale, data, folder / "prompts"), Store(tmp_path / "work")
    listed = conditions_of(matrix, matrix.tables["models"])
    made.finish([*listed, parse_condition(matrix, "nq.bm25.zero-shot")], chain, store)
    size = ["--model", "no/model", "--depth", "16", "--matrix", str(folder)]
    where = ["--data", str(data), "--work", str(store.work), "--results", str(tmp_path / "out")]
    assert shifts.main(["--table", "models", *size, *where]) == 0
    scored = {one.row: scored_of(one, chain, store) for one in listed}
    pairs = [(one, scored[f"zero-shot.{one.variant}"]) for one in listed if one.method.name == "qpeft-a"]
    expected = shifts.summary([(one, shifts.shifts(alone, scored[one.row])) for one, alone in pairs])
    assert len(expected) == 2 and tables.markdown(expected) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--methods", "first-stage", "zero-shot"], "nothing to compare"),
        (["--methods", "lora"], "nq.bm25.lora: not finished; run it with python -m eval.reproduce"),
        (["--against", "first-stage"], "--against: no reranker 'first-stage'"),
        (["--against", "zeroshot"], "--against: no reranker 'zeroshot'"),
        (["--results", "/dev/null/out"], "--results /dev/null/out: cannot be made"),
    ],
)
def test_refusals_are_one_line(mixed_words, more, said, capsys):
    chosen = mixed_words[: mixed_words.index("--methods")] if "--methods" in more else mixed_words
    assert shifts.main([*chosen, *more]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1
