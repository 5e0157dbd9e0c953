"""How methods are trained: settings from the matrix and the command line become words of mine and train."""

import dataclasses

import pytest

from eval import reproduce
from eval.chain import Chain
from eval.conditions import conditions_of, parse_condition
from eval.design import FOLDER, RECIPE, load_matrix
from eval.recipe import mine_words, recipe_of, sequences_of, train_words
from eval.selection import select
from eval.steps import ordered
from qpeft_rerank import train

MATRIX = load_matrix()
TUNED = {"loss": "contrastive", "negatives": 12, "any_positive": True, "temperature": 0.2}


def scale(**recipe):
    return dataclasses.replace(MATRIX.scales["mini"], recipe=recipe, epochs=None)


def condition(name):
    return parse_condition(MATRIX, name)


def test_every_setting_is_a_flag_of_the_commands():
    names = [name for name in RECIPE if name != "positives"]
    flags = {action.dest for action in train._parser()._actions}
    assert set(names) <= flags
    assert train_words({"any_positive": False, "in_batch": True, "queries_per_step": 8, "positives": 3}) == [
        "--no-any-positive",
        "--in-batch",
        "--queries-per-step",
        "8",
    ]


def test_mining_keeps_what_training_draws(data):
    assert mine_words({"negatives": 8, "positives": 1}) == [] == mine_words({})
    assert mine_words(TUNED) == ["--negatives", "12", "--positives", "4"]
    assert mine_words({"any_positive": True, "positives": 2}) == ["--positives", "2"]
    chain = Chain(scale(**TUNED), data, FOLDER / "prompts")
    steps = {step.kind: step for step in ordered([chain.evaluation(condition("nq.bm25.qpeft-a"))])}
    assert "--negatives 12 --positives 4" in " ".join(steps["mine"].command(data))
    said = " ".join(steps["train"].command(data))
    assert "--loss contrastive --temperature 0.2 --negatives 12 --any-positive" in said and "--positives" not in said
    assert chain.scale.described()["loss"] == "contrastive"


def test_who_decides():
    method = dataclasses.replace(MATRIX.methods["qpeft-a"], settings={"loss": "hinge"})
    own = dataclasses.replace(condition("nq.bm25.qpeft-a"), method=method)
    assert recipe_of(own, scale(**TUNED))["loss"] == "hinge"
    assert recipe_of(condition("nq.bm25.qpeft-a.preset-faithful"), scale(**TUNED)) == {}
    # The contrastive loss has no margin, so a table of margins is one of the hinge.
    assert recipe_of(condition("nq.bm25.qpeft-a.margin-0.5"), scale(**TUNED))["loss"] == "pointwise+hinge"
    assert recipe_of(condition("nq.bm25.qpeft-a.margin-0.5"), scale()) == {"margin": 0.5}
    epochs = dataclasses.replace(scale(epochs=9), epochs=3)
    assert recipe_of(condition("nq.bm25.lora"), epochs)["epochs"] == 3


def test_reading_is_counted():
    assert sequences_of({}, 10, 2) == 2 * 10 * 2 * 2
    assert sequences_of({"negatives": 1, "in_batch": True, "queries_per_step": 4}, 10, 1) == 2 * 10 * 8


@pytest.mark.parametrize("spelled", ["0", "0.0", "0e-1"])
def test_a_number_is_one_condition_however_it_is_spelled(data, tmp_path, capsys, spelled):
    words = ["--table", "ablation-margin", "--data", str(data), "--work", str(tmp_path / "w"), "--datasets", "nq"]
    assert reproduce.main([*words, "--values", spelled, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "nq.bm25.qpeft-a.margin-0:" in out and "--margin 0 " in out and "0.0" not in out
    assert condition("nq.bm25.qpeft-a.margin-0").value == 0


def test_epochs_that_are_set_are_those_of_command_and_caption(data, tmp_path, capsys):
    words = ["--condition", "nq.bm25.qpeft-a", "--data", str(data), "--work", str(tmp_path / "w"), "--set", "epochs=3"]
    assert reproduce.main([*words, "--dry-run"]) == 0
    assert "--epochs 3 " in capsys.readouterr().out
    args = reproduce._parser().parse_args(words)
    assert select(args).scale.described()["epochs"] == 3


def test_commands_of_another_model_run_one_at_a_time():
    own, other = (
        select(reproduce._parser().parse_args(["--table", "main", *more])).scale for more in ([], ["--model", "a/b"])
    )
    assert own.memory and other.memory is None


def test_values_and_settings_of_the_command_line(data, tmp_path, capsys):
    words = ["--data", str(data), "--work", str(tmp_path / "w"), "--datasets", "nq"]
    table = ["--table", "ablation-k", "--values", "3", "7", "--set", "loss=contrastive", "queries-per-step=8"]
    assert reproduce.main([*words, *table, "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert "--k 3 " in out and "--k 7 " in out and "--k 5 " not in out
    assert out.count("--loss contrastive --epochs 1 --queries-per-step 8") == 2
    for more, said in (
        (["--set", "los=hinge"], "--set: no setting 'los'; give loss"),
        (["--set", "loss"], "write NAME=VALUE"),
        (["--values", "[1]"], "give a number or a word"),
        (["--table", "main", "--values", "1"], "varies nothing"),
        (["--values", "x"], "--values: k is a whole number, not 'x'"),
        (["--values", "1.5"], "--values: k is a whole number, not 1.5"),
        (["--values", "true"], "--values: k is a whole number, not True"),
        (["--set", "negatives=x"], "--set: negatives is a whole number, not 'x'"),
        (["--set", "margin=.nan"], "--set: margin is a number, not nan"),
        (["--set", "in-batch=1"], "--set: in_batch is true or false, not 1"),
        (["--set", "loss=1"], "--set: loss is a word, not 1"),
    ):
        assert reproduce.main([*words, "--table", "ablation-k", "--dry-run", *more]) == 2
        assert said in capsys.readouterr().err


@pytest.mark.parametrize("table", ["ablation-k", "ablation-margin", "ablation-hints"])
def test_the_three_ablations_are_plans_at_mini_scale(data, table):
    chain = Chain(MATRIX.scales["mini"], data, FOLDER / "prompts")
    listed = [c for c in conditions_of(MATRIX, MATRIX.tables[table]) if c.dataset.name == "nq"]
    assert len({chain.evaluation(one).key for one in listed}) == len(listed)


def test_options_are_written_as_the_commands_read_them():
    from eval.chain import _option_words
    from qpeft_rerank.console import settings

    given = {"start": None, "k": 5, "gate": 0.5, "source": "random", "tied": True}
    words = ["--option", "start=null", "--option", "k=5", "--option", "gate=0.5"]
    assert _option_words(given) == [*words, "--option", "source=random", "--option", "tied=true"]
    given |= {"modules_to_save": ["lm_head"], "target_modules": "[qv]_proj", "rank_pattern": {"{1}": 2}}
    assert settings(_option_words(given)[1::2]) == given
