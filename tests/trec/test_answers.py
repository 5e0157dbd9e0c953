"""What holds an answer is DPR's ``has_answer``: the same as the implementation that Pyserini carries."""

import importlib
import json
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.answers import AnswerMatcher, qrels_from_answers
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic, read_topics

Judge = Callable[[str, list[str], bool], bool]


def has_answer(answers: list[str], text: str, regex: bool = False) -> bool:
    return AnswerMatcher(answers, regex).matches(text)


@pytest.fixture(scope="module")
def pyserini() -> Judge:
    """Pyserini's function, as (text, answers, regex)."""
    try:
        module = importlib.import_module("pyserini.eval.evaluate_dpr_retrieval")
    except ImportError as error:
        pytest.skip(f"Pyserini's evaluation cannot be imported: {error}")
    tokenizer = module.SimpleTokenizer()
    return lambda text, answers, regex: module.has_answers(text, answers, tokenizer, regex)


# Letters with marks, digits, final sigma, ligatures, dotted capital I, spaces of many kinds, controls.
WORDS = """a A bc é e\u0301 ΟΔΟΣ σ ς İ ı ß ﬁ ² ½ 中 中文 한 \u0301 3 12
- ' ’ . $ € _ \\ \u200b \x00 \xad 😀"""
SPACES = [" ", "  ", "\t", "\n", "\u00a0", "\x1f", "\u2028", "\u3000", "\x85"]
PIECES = st.sampled_from(WORDS.split() + SPACES)
TEXTS = st.lists(PIECES, max_size=12).map("".join) | st.text(max_size=20)


@given(text=TEXTS, answers=st.lists(TEXTS, max_size=3), cut=st.tuples(st.integers(0, 12), st.integers(0, 12)))
@example(text="the ΟΔΟΣ", answers=["οδος"], cut=(0, 0))
def test_equal_to_pyserini_on_drawn_texts(pyserini: Judge, text: str, answers: list[str], cut: tuple[int, int]) -> None:
    answers = [*answers, text[min(cut) : max(cut)]]
    # DPR lets an answer without a token match everything; see AnswerMatcher.
    answers = [answer for answer in answers if not pyserini("", [answer], False)]
    assert has_answer(answers, text) == pyserini(text, answers, False)


@given(text=TEXTS, answers=st.lists(st.sampled_from(["a+", "^b", "(", "é", "[A-C]c", r"\d{2}", "x|$", "*"])))
def test_equal_to_pyserini_on_regular_expressions(pyserini: Judge, text: str, answers: list[str]) -> None:
    assert has_answer(answers, text, regex=True) == pyserini(text, answers, True)


@pytest.mark.slow
def test_equal_to_pyserini_on_real_passages(pyserini: Judge, shared_data: Path) -> None:
    folder = shared_data / "miniwiki"
    with (folder / "corpus.jsonl").open(encoding="utf-8") as stream:
        texts = [json.loads(line)["contents"].split("\n", 1)[1] for line in stream]
    lower = [text.lower() for text in texts]
    draw = random.Random(0)
    found = 0
    for name in ("nq", "trivia", "webq", "squad"):
        topics = list(read_topics(str(folder / f"topics.{name}.test.jsonl")).values())
        for topic in draw.sample(topics, 25):
            matcher = AnswerMatcher(topic.answers)
            answers = [answer.lower() for answer in topic.answers]
            likely = [texts[n] for n, text in enumerate(lower) if any(a in text for a in answers)][:20]
            for text in likely + draw.sample(texts, 10):
                assert matcher.matches(text) == pyserini(text, list(topic.answers), False)
                found += matcher.matches(text)
    assert found > 100


def test_tokens_not_letters_decide() -> None:
    assert has_answer(["in 1958"], "It was born In 1958.")
    assert not has_answer(["195"], "It was born in 1958.")
    assert has_answer(["café"], "the CAFE\u0301 there")
    assert not has_answer(["U.S."], "the US there")
    assert has_answer(["a", "here"], "over here")


@pytest.mark.parametrize("answers", [[], [""], [" \n"], ["\x00"]])
def test_no_answer_matches_nothing(answers: list[str]) -> None:
    assert not has_answer(answers, "any text")
    assert not has_answer(answers, "")


def test_one_string_is_not_a_sequence_of_answers() -> None:
    with pytest.raises(TypeError):
        AnswerMatcher("Paris")


def test_qrels_hold_every_topic_and_judge_every_hit_that_has_a_text() -> None:
    topics = {"1": Topic("1", "q", ("red",)), "2": Topic("2", "r", ("blue",)), "3": Topic("3", "s", ("x",))}
    run = {"1": [Hit("a", 2, 1), Hit("b", 1, 2)], "2": [Hit("a", 1, 1)], "9": [Hit("a", 1, 1)]}
    qrels = qrels_from_answers(topics, run, {"a": "a red hat", "b": "reddish"})
    assert qrels == {"1": {"a": 1, "b": 0}, "2": {"a": 0}, "3": {}}
    assert qrels_from_answers(topics, run, {"a": "a red hat"})["1"] == {"a": 1}
    with pytest.raises(InputError, match="topic 1 has no answers"):
        qrels_from_answers({"1": Topic("1", "q")}, run, {})


def test_what_was_judged_is_not_kept_for_ever() -> None:
    tracemalloc.start()
    for number in range(20_000):
        has_answer(["a"], f"{number}{'x' * 1500}")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 45e6
