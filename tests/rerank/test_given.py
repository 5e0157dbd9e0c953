"""What Python code hands over is checked: faults name the place."""

from pathlib import Path

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
    ("passages", "says"),
    [
        (None, "passages: is NoneType; give a list of passages"),
        (5, "passages: is int; give a list of passages"),
        ({"a", "b"}, "passages: is set; give a list of passages"),
        ({"d1": "some text"}, "passages: is dict, a list is wanted; write list(passages.values())"),
    ],
)
def test_what_is_no_list_of_passages_is_refused(reranker: Reranker, passages, says: str) -> None:
    with pytest.raises(InputError) as caught:
        reranker.rerank("who", passages)
    assert str(caught.value) == says


@pytest.mark.parametrize("pairs", [None, 5, {("who", "x")}, {("who", "x"): 1}])
def test_what_is_no_list_of_pairs_is_refused(reranker: Reranker, pairs) -> None:
    with pytest.raises(
        InputError, match=rf"^pairs: is {type(pairs).__name__}; give a list of \(query, passage\) pairs$"
    ):
        reranker.score(pairs)


@pytest.mark.parametrize(
    ("title", "text", "says"),
    [
        (None, "x", "its title is NoneType"),
        (5, "x", "its title is int"),
        ("", None, "its text is NoneType"),
        ("", 5, "its text is int"),
    ],
)
def test_a_passage_is_made_of_strings(title, text, says: str) -> None:
    with pytest.raises(InputError, match=rf"^passage 'd1': {says}; give a string, '' for none$"):
        Passage("d1", title, text)


@pytest.mark.parametrize(
    ("pair", "says"),
    [
        (("who", None), "pair 1: the passage is NoneType; give a string, a Passage or a hit of Pyserini"),
        (("who", b"x"), "pair 1: the passage is bytes"),
        ((None, "x"), "pair 1: the query is NoneType; give a string"),
        (("who",), "pair 1: is tuple; give"),
        ("ab", "pair 1: is str; give"),
        (5, "pair 1: is int; give"),
        ({"query": "who", "passage": "x"}, "pair 1: is dict; give"),
        ({"who", "x"}, "pair 1: is set; give"),
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


def test_paths_are_names(model: str, tmp_path: Path) -> None:
    prompt = tmp_path / "mine.yaml"
    prompt.write_text('passage: "{passage}"\nquestion: " ask"\ntarget: " {query}"\n', "utf-8")
    made = Reranker.from_pretrained(Path(model), prompt=prompt, dtype="float32", device="cpu")
    assert made.scorer.template.name == "mine" and made.scorer.model.source.name == "tiny-llama"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"model": Path("no/where/at-all")}, "no/where/at-all"),
        ({"adapter": Path("no/where/at-all")}, "no adapter 'no/where/at-all'"),
        ({"compare": [Path("no/where/at-all")]}, "no adapter 'no/where/at-all'"),
        ({"prompt": Path("none.yaml")}, "no prompt 'none.yaml'"),
        ({"compare": "none"}, "compare: a list is wanted, not a single name; write ['none']"),
        ({"model": None}, "model: is NoneType; give a name or a path"),
        ({"adapter": 5}, "adapter: is int; give a name or a path"),
        ({"prompt": {"passage": "{passage}"}}, "prompt: is dict; give a name or a path"),
    ],
)
def test_a_name_that_is_not_there_gets_one_line(model: str, changed: dict, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Reranker.from_pretrained(**{"model": model, "device": "cpu", **changed})
    assert says in str(caught.value) and "\n" not in str(caught.value)
