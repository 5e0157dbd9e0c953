"""The dev metric: what it scores, and that it is trec_eval's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError
from qpeft_rerank.training.dev import MEASURE, dev_from_examples, dev_from_run
from qpeft_rerank.training.examples import Example
from qpeft_rerank.trec.measures import evaluate
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic


class Store:
    name = "store"

    def prepare(self, docids):
        pass

    def fetch(self, docids):
        return {docid: Passage(docid, "", f"text {docid}") for docid in docids if docid != "lost"}


TOPICS = {name: Topic(name, f"question {name}", ("7",)) for name in "abcd"}
# a: open; b: none relevant; c: all relevant; d: open only below the depth.
RUN = {
    "a": [Hit("1", 3.0, 1), Hit("7", 2.0, 2), Hit("2", 1.0, 3)],
    "b": [Hit("1", 3.0, 1), Hit("2", 2.0, 2)],
    "c": [Hit("7", 3.0, 1)],
    "d": [Hit("1", 9.0, 1), Hit("2", 8.0, 2), Hit("3", 7.0, 3), Hit("7", 6.0, 4)],
}


def test_only_topics_that_scores_decide_are_scored():
    dev = dev_from_run(RUN, TOPICS, Store(), 3, None, None)
    assert [candidate.passage.docid for candidate in dev.candidates] == ["1", "7", "2"]
    assert dev.topics == 4
    assert dev.first_stage == pytest.approx((1 / 2 + 0 + 1 + 0) / 4)
    assert dev.metric([0.0, 5.0, 1.0]) == pytest.approx((1 + 0 + 1 + 0) / 4)
    assert dev.metric([9.0, 5.0, 7.0]) == pytest.approx((1 / 3 + 0 + 1 + 0) / 4)


@given(st.data())
def test_equal_to_scoring_everything(data):
    docids = [str(number) for number in range(14)]
    grades = {t: {d: data.draw(st.integers(0, 1)) for d in docids} for t in "ab"}
    run = {t: [Hit(d, -float(d), int(d) + 1) for d in docids] for t in "ab"}
    scores = {t: {d: data.draw(st.floats(-50, 0, width=16)) for d in docids} for t in "ab"}
    try:
        dev = dev_from_run(run, TOPICS, Store(), 14, None, grades)
    except InputError:
        return
    given_scores = [scores[c.topic.id][c.passage.docid] for c in dev.candidates]
    assert dev.metric(given_scores) == pytest.approx(evaluate(scores, grades, [MEASURE]).mean[MEASURE])


def test_queries_and_depth_limit():
    dev = dev_from_run(RUN, TOPICS, Store(), 4, 1, None)
    assert dev.topics == 1 and len(dev.candidates) == 3
    assert dev.digest == dev_from_run(RUN, TOPICS, Store(), 4, 1, None).digest
    assert dev.digest != dev_from_run(RUN, TOPICS, Store(), 2, 1, None).digest


def test_judged_topics_alone_are_counted_and_fetched():
    qrels = {"d": {"3": 1}, "c": {"7": 1}, "a": {"2": 1}}
    dev = dev_from_run(RUN | {"b": [Hit("lost", 1.0, 1)]}, TOPICS, Store(), 3, 2, qrels)
    # In the run's order, and none that is not judged among the two, nor its passages.
    assert list(dev.qrels) == ["a", "c"]
    assert [candidate.passage.docid for candidate in dev.candidates] == ["1", "7", "2"]
    assert dev_from_run(RUN, TOPICS, Store(), 3, None, qrels).topics == 3


def test_triples_need_negatives():
    alone = Example("q", "question", (), (Passage("1", "", "t"),), ())
    with pytest.raises(InputError, match="no dev triple has a negative"):
        dev_from_examples([alone])
    with pytest.raises(InputError, match=r"^dev\.jsonl: no dev triple"):
        dev_from_examples([alone], "dev.jsonl")
    other = Example("q", "question", (), (Passage("", "", "t"),), (Passage("", "", "u"),))
    dev = dev_from_examples([alone, other])
    assert dev.topics == 2 and len(dev.candidates) == 2
    assert dev.metric([1.0, 0.0]) == 1.0 and dev.metric([0.0, 1.0]) == 0.75


def test_copies_and_passages_with_an_answer_are_no_negatives():
    """They tie with a positive or rank above it, and rightly."""
    positive, other = Passage("1", "Moon", "t"), Passage("4", "Sun", "t")
    false = (Passage("2", "Moon", "t"), Passage("3", "", "the answer is 7"))
    dev = dev_from_examples([Example("q", "question", ("7",), (positive,), (*false, other))])
    assert [candidate.passage.title for candidate in dev.candidates] == ["Moon", "Sun"]
    assert dev.metric([1.0, 0.0]) == 1.0
    # Ordinary ones stand in, as in training.
    dev = dev_from_examples([Example("q", "question", ("7",), (positive,), false, (other,))])
    assert [candidate.passage.title for candidate in dev.candidates] == ["Moon", "Sun"]
    with pytest.raises(InputError, match="no dev triple has a negative without one of its answers, so"):
        dev_from_examples([Example("q", "question", ("7",), (positive,), false)])


def test_bad_dev_sets():
    with pytest.raises(InputError, match="docid lost of the dev run is not in store"):
        dev_from_run({"a": [Hit("lost", 1.0, 1)]}, TOPICS, Store(), 3, None, None)
    with pytest.raises(InputError, match="none of the dev run's 1 topics"):
        dev_from_run({"z": [Hit("1", 1.0, 1)]}, TOPICS, Store(), 3, None, None)
    with pytest.raises(InputError, match="no dev question has relevant and other candidates"):
        dev_from_run({"b": RUN["b"]}, TOPICS, Store(), 3, None, None)
    with pytest.raises(InputError, match="none of the dev topics in the run is judged by --dev-qrels"):
        dev_from_run({"z": [], "a": RUN["a"]}, TOPICS, Store(), 3, None, {"z": {"1": 1}, "b": {"1": 1}})
    with pytest.raises(InputError, match="has no answers"):
        dev_from_run({"a": RUN["a"]}, {"a": Topic("a", "q")}, Store(), 3, None, None)
