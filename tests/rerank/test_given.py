"""What Python code hands over is checked: faults name the place."""

import pytest

from qpeft_rerank import Reranker
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError


@pytest.fixture(scope="module")
def reranker(model: str) -> Reranker:
    return Reranker.from_pretrained(model, dtype="float32", device="cpu")


@pytest.mark.parametrize("passages", ["abc", Passage("1", "", "abc")])
def test_one_passage_is_no_list(reranker: Reranker, passages) -> None:
    with pytest.raises(InputError, match=r"passages: a list is wanted.*write \[passage\]"):
        reranker.rerank("who", passages)


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (("who", None), "pair 1: the passage is NoneType; give a string or a Passage"),
        (("who", b"x"), "pair 1: the passage is bytes"),
        ((None, "x"), "pair 1: the query is NoneType; give a string"),
        (("who",), "pair 1: is tuple; give"),
        ("ab", "pair 1: is str; give"),
        (5, "pair 1: is int; give"),
    ],
)
def test_what_is_no_pair_is_named_by_its_place(reranker: Reranker, pair, says: str) -> None:
    with pytest.raises(InputError, match=says):
        reranker.score([("who", "x"), pair])


def test_lists_and_passages_are_scored(reranker: Reranker) -> None:
    one, two = reranker.score([["who", "x"], ("who", Passage("1", "", "x"))])
    assert one.total == pytest.approx(two.total)
    assert [ranked.place for ranked in reranker.rerank("who", (text for text in ["x", "x"]))] == [0, 1]
    assert reranker.rerank("who", []) == []
