"""Alpha: swept over both scores, chosen on dev, shown on test."""

import dataclasses

import numpy
import pandas
import pytest

from eval import fusion, runner
from eval.chain import Chain
from eval.commands import Commands
from eval.conditions import parse_condition
from eval.design import load_matrix
from eval.mixing import ALPHAS, Fused, Scored, fuse, read_scored, sweep
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.measures import evaluate
from qpeft_rerank.trec.qrels import read_qrels
from qpeft_rerank.trec.runs import Hit, read_run

MATRIX = load_matrix()


def hits(scores):
    ranked = sorted(scores.items(), key=lambda item: -item[1])
    return [Hit(docid, score, rank) for rank, (docid, score) in enumerate(ranked, 1)]


def test_a_mixture_can_beat_both():
    """The relevant passage is second in either order, behind another one each time."""
    first = {"t": hits({"a": 10.0, "b": 9.0, "c": 0.0})}
    likelihood = {"t": {"a": -10.0, "b": -1.0, "c": 0.0}}
    scored = Scored(first, likelihood, {"t": {"a": 0, "b": 1, "c": 0}}, ("t",))
    found = sweep(scored, "MRR@10", [0.0, 0.5, 1.0])
    assert found.shape == (1, 3) and found.tolist() == [[0.5, 1.0, 0.5]]


@pytest.mark.parametrize(
    ("dev", "alpha"), [((0.1, 0.5, 0.2), ALPHAS[1]), ((0.1, 0.5, 0.5, 0.5, 0.2), ALPHAS[2]), ((0.3,) * 21, 0.5)]
)
def test_of_equal_alphas_the_middle_one_is_chosen(dev, alpha):
    condition = parse_condition(MATRIX, "nq.bm25.zero-shot")
    assert ALPHAS[Fused(condition, "R@10", numpy.zeros((1, 21)), dev).chosen] == alpha


def test_first_stages_are_kept_apart():
    one = parse_condition(MATRIX, "nq.bm25.zero-shot")
    other = dataclasses.replace(one, first_stage=dataclasses.replace(one.first_stage, name="x", title="X"))
    fused = [Fused(one, "R@10", numpy.zeros((2, 21)), (0.1,) * 21), Fused(other, "R@10", numpy.zeros((2, 21)), None)]
    assert list(fusion.summary(fused)["First stage"]) == ["BM25", "X"]
    assert "No dev run exists for NQ under X, so" in fusion.caption(fused)
    assert "First stage" not in fusion.summary(fused[:1]) and "No dev run" not in fusion.caption(fused[:1])


def test_the_ends_are_the_runs_themselves(mixed):
    _, chain, store = mixed
    condition = parse_condition(MATRIX, "nq.bm25.qpeft-a")
    fused = fuse(condition, chain, store, "MRR@10")
    qrels = read_qrels(str(chain.judgements(condition).place(store.work)))
    answered = [topic for topic, grades in qrels.items() if any(grades.values())]
    for place_, step in ((0, chain.candidates), (-1, chain.rerank)):
        run = read_run(str(step(condition).place(store.work)))
        assert fused.curve[place_] == pytest.approx(evaluate(run, qrels, ["MRR@10"], answered).mean["MRR@10"])
    assert len(fused.dev) == len(ALPHAS) and fused.dev[fused.chosen] == max(fused.dev)


def test_without_a_dev_run_nothing_is_chosen(mixed):
    data, chain, store = mixed
    other = Chain(dataclasses.replace(chain.scale, dev_queries=5), data, chain.prompts)  # of these none was reranked
    fused = fuse(parse_condition(MATRIX, "nq.bm25.zero-shot"), other, store, "MRR@10")
    assert len(fused.curve) == len(ALPHAS) and fused.dev is None and fused.chosen is None
    assert "No dev run exists for NQ, so no alpha is chosen there." in fusion.caption([fused])
    (row,) = fusion.summary([fused]).to_dict("records")
    assert (row["Alpha"], row["Mixed"], row["p"]) == ("no dev", "–", "–")


def test_dev_and_test_are_different_steps(mixed):
    _, chain, _ = mixed
    condition = parse_condition(MATRIX, "nq.bm25.qpeft-a")
    for step in (chain.topics, chain.candidates, chain.judgements, chain.rerank):
        assert step(condition).key != step(condition, "dev").key
    # Both rerank with one adapter.
    assert chain.adapter(condition) in chain.rerank(condition, "dev").needs


def test_command(mixed_words, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Commands, "__call__", lambda *_: pytest.fail("ran a finished step"))
    assert fusion.main(mixed_words) == 0
    printed = capsys.readouterr().out
    assert printed in (tmp_path / "out" / "table.md").read_text() + "\n"
    assert printed.count("| NQ |") == printed.count("| SQuAD |") == 2 and "no dev" not in printed
    table = pandas.read_csv(tmp_path / "out" / "sweep.csv")
    assert len(table) == 4 * len(ALPHAS) and table.groupby("condition").chosen.sum().tolist() == [1] * 4
    chosen = table[table.chosen].set_index("condition")
    assert (chosen.dev == table.groupby("condition").dev.max().loc[chosen.index]).all()
    assert f"{chosen.test['nq.bm25.qpeft-a']:.2f}" in printed


def test_full_scale_has_dev_topics_where_pyserini_has(capsys, tmp_path):
    words = ["--scale", "full", "--table", "prompts", "--dry-run", "--work", str(tmp_path)]
    assert fusion.main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("eval.sample --topics dpr-nq-dev --count 128") == 1 and "dpr-trivia-dev" in printed
    assert "webq.bm25.zero-shot:" in printed and "webq.bm25.zero-shot, dev" not in printed


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--measure", "R@11"], "--measure: no measure 'R@11'; give R@1"),
        (["--methods", "first-stage"], "only first stages were asked for"),
        (["--results", "/dev/null/out"], "--results /dev/null/out: cannot be made"),
        (["--data", "absent"], "no such folder"),
    ],
)
def test_refusals_are_one_line(mixed_words, more, said, capsys, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda *_: 0)
    chosen = mixed_words[: mixed_words.index("--methods")] if "--methods" in more else mixed_words
    assert fusion.main([*chosen, *more]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_topic_that_the_first_stage_lacks_counts_0_as_in_tables(tmp_path):
    """Where a data set brings its judgements; those by answers know no other topics than the run's."""
    (tmp_path / "a").write_text("t Q0 1 1 2 x\nt Q0 2 2 1 x\n")
    (tmp_path / "qrels").write_text("t 0 1 1\nt 0 2 0\nu 0 3 2\nv 0 3 0\n")
    scored = read_scored(tmp_path / "a", tmp_path / "a", tmp_path / "qrels")
    assert scored.topics == ("t", "u") and sweep(scored, "nDCG@10", [0.0, 0.5, 1.0]).tolist() == [[1.0] * 3, [0.0] * 3]


def test_runs_of_other_candidates_are_refused(tmp_path):
    (tmp_path / "a").write_text("t Q0 1 1 2 x\nt Q0 2 2 1 x\n")
    (tmp_path / "b").write_text("t Q0 1 1 2 x\n")
    (tmp_path / "qrels").write_text("t 0 1 1\n")
    with pytest.raises(InputError, match="b: topic t has other candidates than in"):
        read_scored(tmp_path / "a", tmp_path / "b", tmp_path / "qrels")
