"""What Python code hands over is checked: faults name the place."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from qpeft_rerank import CorpusFile, Hit, Reranker, Topic
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError
from tests.refusal import refusal


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
        (np.array("x"), "passages: is ndarray; give a list of passages"),
        (pd.DataFrame({"text": ["x"]}), "passages: is DataFrame; give a list of passages"),
        ({"d1": "some text"}, "passages: is dict, a list is wanted; write list(passages.values())"),
    ],
)
def test_what_is_no_list_of_passages_is_refused(reranker: Reranker, passages, says: str) -> None:
    with pytest.raises(InputError) as caught:
        reranker.rerank("who", passages)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    "pairs", [None, 5, {("who", "x")}, {("who", "x"): 1}, np.array("x"), pd.DataFrame({"q": ["who"], "ab": ["x"]})]
)
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
    columns = pd.DataFrame({"query": ["who", "who"], "text": ["x", "y"]})
    assert reranker.rerank("who", columns["text"]) == reranker.rerank("who", ["x", "y"])
    assert reranker.score(columns.to_numpy()) == reranker.score([("who", "x"), ("who", "y")])


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"journal": "x"}, "journal: is str; give a qpeft_rerank.likelihood.journal.Journal, or None"),
        ({"progress": 5}, "progress: is int; give a function that takes a number, or None"),
        ({"again": "x"}, "again: is str; give a function that takes a number, or None"),
    ],
)
def test_what_keeps_and_watches_scores_is_checked(
    reranker: Reranker, model: str, tiny_corpus: Path, changed: dict, says: str
) -> None:
    given = {"1": [Hit("42", 1.0, 1)]}, {"1": Topic("1", "who")}, CorpusFile(str(tiny_corpus))
    narrow = Reranker.from_pretrained(model, dtype="mixed", device="cpu")
    assert refusal(lambda: narrow.certified_run(*given, 1, **changed)) == says
    if "again" not in changed:
        assert refusal(lambda: reranker.rerank_run(*given, **changed)) == says
        assert refusal(lambda: reranker.compare_run(*given, **changed)) == says


def test_none_is_no_journal_no_progress_and_nothing_to_compare(model: str, tiny_corpus: Path) -> None:
    made = Reranker.from_pretrained(model, dtype="mixed", device="cpu", compare=None)
    given = {"1": [Hit("42", 1.0, 1)]}, {"1": Topic("1", "who")}, CorpusFile(str(tiny_corpus))
    none = {"journal": None, "progress": None}
    assert made.rerank_run(*given, **none).run == made.rerank_run(*given).run == made.compare_run(*given, **none)[0].run
    assert made.certified_run(*given, 1, **none, again=None).certificate


@pytest.mark.parametrize("score", [10**400, -(10**5000), Fraction(10**400)], ids=["large", "long", "fraction"])
def test_a_score_beyond_all_floats_is_none(reranker: Reranker, tiny_corpus: Path, score: object) -> None:
    given = {"1": [Hit("42", score, 1)]}, {"1": Topic("1", "who")}, CorpusFile(str(tiny_corpus))
    said = "run, topic '1': docid 42: score beyond all floats is not a finite number"
    assert refusal(lambda: reranker.rerank_run(*given)) == said


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
        ({"compare": 5}, "compare: is int; give a list of names"),
        ({"compare": np.array("none")}, "compare: is ndarray; give a list of names"),
        ({"model": None}, "model: is NoneType; give a name or a path"),
        ({"adapter": 5}, "adapter: is int; give a name or a path"),
        ({"prompt": {"passage": "{passage}"}}, "prompt: is dict; give a name or a path"),
    ],
)
def test_a_name_that_is_not_there_gets_one_line(model: str, changed: dict, says: str) -> None:
    with pytest.raises(InputError) as caught:
        Reranker.from_pretrained(**{"model": model, "device": "cpu", **changed})
    assert says in str(caught.value) and "\n" not in str(caught.value)
