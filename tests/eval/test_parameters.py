"""Parameters are told as each row had them."""

import dataclasses
from pathlib import Path

from eval.chain import Chain
from eval.conditions import conditions_of, parse_condition
from eval.design import FOLDER, load_matrix
from eval.parameters import parameters_of, said

MATRIX = load_matrix()
MINI = MATRIX.scales["mini"]


def conditions(*names):
    return [parse_condition(MATRIX, f"nq.bm25.{name}") for name in names]


def test_rows_with_another_prompt_are_named():
    rows = ("first-stage", "zero-shot", "zero-shot-upr", "zero-shot-qpeft", "soft-prompt", "qpeft-a-steps", "general-a")
    told = said(conditions(*rows), MINI)
    assert told["prompt"] == "plain (zero-shot-upr: upr; zero-shot-qpeft, soft-prompt: qpeft)"
    assert told["epochs"] == "1 (qpeft-a-steps: 20)"
    assert told["model"] == "embedded" and told["queries"] == "160"
    # At the other scale the paper's prompt is everyone's but those that have one of their own.
    told = said(conditions(*rows[:4], rows[-1]), MATRIX.scales["full"])["prompt"]
    assert told == "qpeft (zero-shot, general-a: plain; zero-shot-upr: upr)"


def test_a_preset_leaves_the_scales_recipe_out():
    scale = dataclasses.replace(MINI, recipe={"margin": 0.3})
    rows = conditions("qpeft-a", "qpeft-a-steps", "qpeft-a-faithful")
    assert said(rows, scale)["margin"] == "0.3 (qpeft-a-steps: 0; qpeft-a-faithful: as its preset)"


def test_what_a_table_varies_is_in_its_titles():
    assert said(conditions_of(MATRIX, MATRIX.tables["ablation-queries"]), MINI)["queries"] == "160"


def test_stored_figures_have_the_prompt_that_was_read(data):
    chain = Chain(MINI, data, FOLDER / "prompts")
    upr, soft, plain = (parameters_of(one, chain) for one in conditions("zero-shot-upr", "soft-prompt", "qpeft-a"))
    assert (upr["prompt"], soft["prompt"], plain["prompt"]) == ("upr", "qpeft", "plain")
    assert "queries" not in upr and soft["queries"] == 160


def test_hints_before_the_passage_are_another_prompt(data):
    chain = Chain(MINI, data, FOLDER / "prompts")
    rows = conditions("qpeft-a", "qpeft-a-before", "qpeft-r.hints-before", "qpeft-r.hints-after")
    told = said(rows, MINI)["prompt"]
    assert told == "plain (qpeft-a-before, qpeft-r.hints-before: plain-hints-first)"
    for one in rows:
        step = chain.adapter(one)
        read = next(word for flag, word in zip(step.words, step.words[1:], strict=False) if flag == "--prompt")
        assert parameters_of(one, chain)["prompt"] == Path(read.text).stem
