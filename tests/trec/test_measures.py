"""Measures: the definitions, and pytrec_eval's traps closed."""

import math
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.measures import evaluate, parse_measure
from qpeft_rerank.trec.qrels import Qrels, read_qrels
from qpeft_rerank.trec.runs import Hit, read_run, trec_order

DOCIDS = [str(n) for n in range(12)]
TOPICS = ["1", "2", "3", "4"]
RUNS = st.dictionaries(
    st.sampled_from([*TOPICS, "99"]),
    st.dictionaries(st.sampled_from(DOCIDS), st.sampled_from([0.0, -1.5, 2.25, 7.0]), max_size=9),
)
QRELS = st.dictionaries(
    st.sampled_from(TOPICS),
    st.dictionaries(st.sampled_from(DOCIDS), st.integers(-4, 3), max_size=9),
    min_size=1,
)


def by_hand(scored: dict[str, float], grades: dict[str, int], k: int) -> dict[str, float]:
    """The textbook definitions at a cut-off ``k``; R, AP and nDCG are 0 without a relevant passage."""
    gains = [max(grades.get(docid, 0), 0) for docid, _ in trec_order(scored.items())][:k]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)
    first = next((rank for rank, gain in enumerate(gains, 1) if gain), None)
    hits = [rank for rank, gain in enumerate(gains, 1) if gain]

    def dcg(values: list[int]) -> float:
        return sum(value / math.log2(rank + 1) for rank, value in enumerate(values, 1))

    return {
        f"nDCG@{k}": dcg(gains) / dcg(ideal[:k]) if ideal else 0.0,
        f"R@{k}": len(hits) / len(ideal) if ideal else 0.0,
        f"P@{k}": len(hits) / k,
        f"Success@{k}": float(bool(hits)),
        f"RR@{k}": 1 / first if first else 0.0,
        f"AP@{k}": sum(n / rank for n, rank in enumerate(hits, 1)) / len(ideal) if ideal else 0.0,
    }


@given(run=RUNS, qrels=QRELS, k=st.integers(1, 12))
def test_values_are_the_textbook_ones_over_all_judged_topics(
    run: dict[str, dict[str, float]], qrels: Qrels, k: int
) -> None:
    expected = {topic: by_hand(run.get(topic, {}), qrels[topic], k) for topic in qrels}
    names = list(next(iter(expected.values())))
    found = evaluate(run, qrels, names)
    assert list(found.per_topic) == list(found.mean) == names
    for name in names:
        assert list(found.per_topic[name]) == list(qrels)
        for topic in qrels:
            assert found.per_topic[name][topic] == pytest.approx(expected[topic][name])
        assert found.mean[name] == pytest.approx(sum(e[name] for e in expected.values()) / len(qrels))
    assert found.missing == tuple(topic for topic in qrels if not run.get(topic))
    assert found.unjudged == tuple(topic for topic in run if topic not in qrels)


@given(run=RUNS, qrels=QRELS)
def test_aliases_are_the_same_measure(run: dict[str, dict[str, float]], qrels: Qrels) -> None:
    pairs = [("H@5", "Success@5"), ("Hit@5", "hit@5"), ("MRR", "RR"), ("MRR@3", "rr@3"), ("MAP", "AP")]
    pairs += [("R@12", "Recall@12"), ("RR@12", "RR"), ("AP@12", "AP"), ("nDCG@12", "ndcg"), ("H@2", "hit@2")]
    found = evaluate(run, qrels, [name for pair in pairs for name in pair])
    for left, right in pairs:
        assert found.per_topic[left] == found.per_topic[right]


def test_topics_chosen_are_the_denominator() -> None:
    run = {"1": [Hit("a", 1.0, 1)], "2": [Hit("a", 1.0, 1)]}
    qrels = {"1": {"a": 1}, "2": {"b": 1}}
    assert evaluate(run, qrels, ["H@1"]).mean == {"H@1": 0.5}
    assert evaluate(run, qrels, ["H@1"], ["1"]).mean == {"H@1": 1.0}
    chosen = evaluate(run, qrels, ["H@1"], iter(["1", "1", "3", "4"]))
    assert chosen.mean["H@1"] == pytest.approx(1 / 3)
    assert chosen.missing == ("3", "4")
    with pytest.raises(InputError, match="no topics"):
        evaluate(run, qrels, ["H@1"], [])


def test_topics_with_only_zero_grades_stay() -> None:
    found = evaluate({"1": {"a": 1.0}, "2": {"a": 1.0}}, {"1": {"a": 0}, "2": {"a": 1}}, ["R@5", "nDCG@5"])
    assert found.mean == {"R@5": 0.5, "nDCG@5": 0.5}
    assert found.missing == ()


def test_a_topic_of_negative_grades_alone_counts_0() -> None:
    # Given such a topic as it is, trec_eval ends the whole process with a segmentation fault.
    code = (
        "from qpeft_rerank.trec.measures import evaluate\n"
        "run = {'1': {'a': 2.0, 'b': 1.0}, '2': {'a': 1.0}}\n"
        "qrels = {'1': {'a': -2, 'b': -2000}, '2': {'a': 1}}\n"
        "print(evaluate(run, qrels, ['nDCG@10', 'nDCG', 'R@5', 'AP', 'RR@10', 'P(rel=2)@5']).mean)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "{'nDCG@10': 0.5, 'nDCG': 0.5, 'R@5': 0.5, 'AP': 0.5, 'RR@10': 0.5, 'P(rel=2)@5': 0.0}\n"


def test_a_higher_grade_may_be_asked_for() -> None:
    found = evaluate(
        {"1": {"a": 2.0, "b": 1.0}}, {"1": {"a": 1, "b": 2}}, ["RR(rel=2)", "RR", "RR(rel=2)@1", "P(rel=2)@2"]
    )
    assert found.mean == {"RR(rel=2)": 0.5, "RR": 1.0, "RR(rel=2)@1": 0.0, "P(rel=2)@2": 0.5}


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("nDGC@10", "unknown; nearest: nDCG@10"),
        ("foo", "unknown; known: nDCG, "),
        ("recall", "needs a cut-off; write recall@10"),
        ("P@0", "start at 1"),
        ("nDCG(rel=2)@10", "every grade"),
        ("", "unknown"),
        ("nDCG@10 ", "nearest: nDCG@10"),
    ],
)
def test_an_unknown_measure_names_the_nearest(name: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        parse_measure(name)


def test_a_score_that_cannot_be_ranked_is_named() -> None:
    with pytest.raises(InputError, match=r"topic 1, docid b: score nan"):
        evaluate({"1": {"a": 1.0, "b": math.nan}}, {"1": {"a": 1}}, ["RR"])


def test_bm25_of_trec_dl_2019_has_its_published_figure(shared_data: Path) -> None:
    folder = shared_data / "dl19"
    run, qrels = read_run(str(folder / "run.bm25.txt")), read_qrels(str(folder / "qrels.txt"))
    found = evaluate(run, qrels, ["nDCG@10"])
    assert round(found.mean["nDCG@10"], 4) == 0.5058
    assert found.missing == found.unjudged == ()
    assert type(found.mean["nDCG@10"]) is float
