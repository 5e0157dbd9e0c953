"""What Python code asks of a run is refused before a passage is fetched, so before anything is scored."""

import numpy as np
import pytest

from qpeft_rerank import Reranker
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic

RUN = {"1": [Hit("a", 2.0, 1), Hit("b", 1.0, 2)], "2": [Hit("c", 1.0, 1)]}
TOPICS = {topic: Topic(topic, "who wrote it") for topic in RUN}


class Unread:
    """Passages of which none may be fetched; ``c`` is not there."""

    name = "memory"

    def prepare(self, docids: list[str]) -> None:
        raise AssertionError("prepared")

    def fetch(self, docids: list[str]) -> dict[str, Passage]:
        raise AssertionError("fetched")

    def first_absent(self, docids: list[str]) -> str | None:
        return next((docid for docid in docids if docid == "c"), None)


@pytest.fixture(scope="module")
def reranker(model: str) -> Reranker:
    return Reranker.from_pretrained(model, dtype="mixed", device="cpu")


ASKED = [
    ({"depth": 0}, "depth 0: give a whole number from 1"),
    ({"depth": "3"}, "depth '3': give a whole number from 1"),
    ({"run": {1: RUN["1"]}}, "run, topic 1: its id is int; give a string"),
    ({"topics": {1: TOPICS["1"]}}, "topics, 1: its id is int; give a string"),
    ({"run": {"1": [Hit(7, 1.0, 1)]}}, "run, topic '1': docid 7 is int; give a string"),
    ({"run": {"1": [Hit("a", float("nan"), 1)]}}, "run, topic '1': docid a: score nan is not a finite number"),
    ({"run": {"1": [Hit("a", None, 1)]}}, "run, topic '1': docid a: score None is not a finite number"),
    ({"topics": {topic: Topic(topic, None) for topic in RUN}}, "topics, '1': its text is NoneType; give a string"),
    ({"run": {"1": {"a": 1.0}}}, "run, topic '1': give a list of Hit("),
    ({"run": {"1": [("a", 1.0)]}}, "run, topic '1': give a list of Hit("),
    ({"run": {"1": [RUN["1"][0]] * 2}}, "run, topic '1': has a docid twice"),
    ({"run": list(RUN)}, "run: is list; give a mapping from topics"),
    ({"topics": dict.fromkeys(RUN, "who")}, "topics, '1': is str; give Topic("),
    ({"topics": list(TOPICS.values())}, "topics: is list; give a mapping from topics"),
    ({"passages": {"a": "text"}}, "passages: is dict; give an index or a CorpusFile"),
    ({"missing": "skipp"}, "--missing skipp: give strict or skip"),
    ({}, "docid c (topic 2) is not in memory; "),
]
MIXED = [
    ({"alpha": 2.0}, "--alpha 2.0: give a number from 0 "),
    ({"alpha": float("nan")}, "--alpha nan: give a number from 0 "),
    ({"alpha": "0.5"}, "--alpha 0.5: give a number from 0 "),
]


@pytest.mark.parametrize(
    ("way", "asked", "says"),
    [
        *(("rerank_run", *case) for case in [*ASKED, *MIXED]),
        *(("compare_run", *case) for case in [*ASKED, *MIXED]),
        *(("certified_run", {"first": 1, **asked}, says) for asked, says in ASKED),
        *(("certified_run", {"first": bad}, f"first {bad!r}: give a whole number from 1") for bad in (0, 2.5, "3")),
    ],
)
def test_it_is_refused_before_anything_is_scored(reranker: Reranker, way: str, asked: dict, says: str) -> None:
    with pytest.raises(InputError) as caught:
        getattr(reranker, way)(**{"run": RUN, "topics": TOPICS, "passages": Unread(), **asked})
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize("asked", [{"missing": "skip"}, {"missing": "strict", "run": {"1": RUN["1"]}}])
def test_what_may_be_scored_is_fetched(reranker: Reranker, asked: dict) -> None:
    with pytest.raises(AssertionError, match="prepared"):
        reranker.rerank_run(**{"run": RUN, "topics": TOPICS, "passages": Unread(), **asked})


@pytest.mark.parametrize("limit", [0, 2.5, "5"])
def test_a_limit_of_passages_is_a_whole_number(model: str, limit: object) -> None:
    with pytest.raises(InputError, match=f"max-passage-tokens {limit!r}: give a whole number from 1"):
        Reranker.from_pretrained(model, device="cpu", max_passage_tokens=limit)


def test_numbers_of_numpy_are_numbers(model: str) -> None:
    given = {"max_passage_tokens": np.int64(2), "batch_tokens": np.int32(64)}
    made = Reranker.from_pretrained(model, dtype="float32", device="cpu", **given)
    assert made.score([("who", "Ada wrote the first program")])[0].truncated


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"batch_tokens": "500"}, "--batch-tokens '500': give a whole number from 1"),
        ({"batch_tokens": 0.5}, "--batch-tokens 0.5: give a whole number from 1"),
        ({"device": None}, "--device None: give auto, cpu, cuda, cuda:N or mps"),
    ],
)
def test_what_is_no_number_or_device_is_refused(model: str, given: dict, says: str) -> None:
    with pytest.raises(InputError, match=f"^{says}$"):
        Reranker.from_pretrained(model, **{"dtype": "float32", "device": "cpu", **given})


class Nameless(Unread):
    """Passages that do not know what they are called."""

    def prepare(self, docids: list[str]) -> None:
        pass

    def fetch(self, docids: list[str]) -> dict[str, Passage]:
        return {docid: Passage("", "", f"Ada wrote {docid}.") for docid in docids}


@pytest.mark.parametrize("way", ["rerank_run", "certified_run"])
def test_scores_are_joined_by_the_run_s_names(reranker: Reranker, way: str) -> None:
    run = {"1": RUN["1"]}
    asked = {"first": 1} if way == "certified_run" else {}
    found = getattr(reranker, way)(run, {"1": Topic("of another name", "who wrote it")}, Nameless(), **asked)
    expected = reranker.rerank("who wrote it", ["Ada wrote a.", "Ada wrote b."])
    assert [docid for docid, _ in found.run["1"]] == ["ab"[place] for place, _ in expected]
    assert [pair[:2] for pair in found.pairs] == [("1", "a"), ("1", "b")]
