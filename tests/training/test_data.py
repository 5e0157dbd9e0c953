"""Reading training files, and what an epoch draws from them."""

import dataclasses
import gzip
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError
from qpeft_rerank.training.data import read_training_file
from qpeft_rerank.training.examples import MOST_KEPT, Example
from qpeft_rerank.training.sampler import EpochSampler, Sampling

DPR = [
    {
        "dataset": "nq_train",
        "question": 'who said "{[" in a brace } ’s \\ book',
        "answers": ["no one"],
        "positive_ctxs": [{"title": "Braces", "text": 'A } " \\ brace', "score": 1000, "passage_id": "12"}],
        "negative_ctxs": [{"title": "N", "text": "plain", "passage_id": "13"}],
        "hard_negative_ctxs": [{"title": "", "text": "hard ] one", "psg_id": "14"}],
    },
    {"question": "no positive", "answers": ["x"], "positive_ctxs": [], "negative_ctxs": [], "hard_negative_ctxs": []},
    {
        "question": "bare",
        "positive_ctxs": [{"text": "t", "title": None}],
        "negative_ctxs": [],
        "hard_negative_ctxs": [],
    },
]


def mined(place: int, **changes) -> str:
    record = {
        "qid": f"q{place}",
        "query": f"question {place}",
        "positives": [{"docid": f"p{place}", "title": "", "text": f"text {place}"}],
        "negatives": [],
    }
    return json.dumps(record | changes) + "\n"


@pytest.mark.parametrize("indent", [None, 0, 4])
@pytest.mark.parametrize("packed", [False, True])
def test_dpr_file(tmp_path, indent, packed):
    path = tmp_path / "biencoder.json"
    data = json.dumps(DPR, indent=indent).encode()
    path.write_bytes(gzip.compress(data) if packed else data)
    found = read_training_file(str(path))
    assert (found.total, found.dropped) == (3, 1)
    first, bare = found.examples
    assert first.query == 'who said "{[" in a brace } \'s \\ book'
    assert first.positives == (Passage("12", "Braces", 'A } " \\ brace'),)
    assert first.hard == (Passage("14", "", "hard ] one"),)
    assert first.plain == (Passage("13", "N", "plain"),)
    assert bare.positives == (Passage("", "", "t"),) and bare.answers == ()
    assert first.where.startswith(f"{path}:")


JSON_TEXT = st.text(st.sampled_from('a"\\{}[],: \n’é'), max_size=12)


@given(st.lists(st.tuples(JSON_TEXT, JSON_TEXT), min_size=1, max_size=4), st.sampled_from([None, 1]))
@settings(max_examples=60)
def test_any_text_in_an_array(tmp_path_factory, texts, indent):
    path = tmp_path_factory.mktemp("array") / "train.json"
    entries = [
        {"question": f"q {question}", "positive_ctxs": [{"text": text, "title": ""}]} for question, text in texts
    ]
    path.write_text(json.dumps(entries, indent=indent))
    assert [example.positives[0].text for example in read_training_file(str(path)).examples] == [
        text for _, text in texts
    ]


def test_mined_file_and_round_trip(tmp_path, examples):
    path = tmp_path / "mined.jsonl"
    path.write_text("".join(json.dumps(example.to_record()) + "\n" for example in examples))
    assert list(read_training_file(str(path)).examples) == examples


def test_mined_questions_are_those_of_the_topics(tmp_path):
    path = tmp_path / "mined.jsonl"
    path.write_text(mined(1, query="who’s there"))
    assert read_training_file(str(path)).examples[0].query == "who’s there"


def test_sample_depends_on_the_seed_only(tmp_path):
    path = tmp_path / "mined.jsonl"
    path.write_text("".join(mined(place) for place in range(200)))
    once, again, other = (read_training_file(str(path), 20, seed) for seed in (1, 1, 2))
    assert once == again and once.examples != other.examples
    numbers = [int(example.qid[1:]) for example in once.examples]
    assert len(set(numbers)) == 20 and numbers == sorted(numbers)
    assert len(read_training_file(str(path), 500, 1).examples) == 200


def test_long_lists_are_cut(tmp_path):
    path = tmp_path / "mined.jsonl"
    path.write_text(mined(1, negatives=[{"title": "", "text": str(place)} for place in range(300)]))
    file = read_training_file(str(path))
    assert len(file.examples[0].hard) == MOST_KEPT
    assert f"{300 - MOST_KEPT} passages past a question's {MOST_KEPT}th left out" in file.summary


@pytest.mark.parametrize("filtering", [True, False])
def test_what_is_never_drawn_is_not_kept(tmp_path, filtering):
    def passages(*texts):
        return [{"title": "", "text": text} for text in texts]

    path = tmp_path / "dpr.json"
    entries = [
        # Of one no hard negative is left once those with its answer are out.
        {"question": f"q{place}", "answers": ["ada"], "positive_ctxs": passages("ada"), "hard_negative_ctxs": hard}
        for place, hard in enumerate([passages("ada x", "bob"), passages("ada y"), []])
    ]
    path.write_text(json.dumps([entry | {"negative_ctxs": passages("eve", "dan")} for entry in entries]))
    sampling = Sampling(negatives=2, filter_answers=filtering)
    whole, lean = (read_training_file(str(path), sampling=some) for some in (None, sampling))
    assert [len(example.plain) for example in whole.examples] == [2, 2, 2]
    assert [len(example.plain) for example in lean.examples] == ([0, 2, 2] if filtering else [0, 0, 2])
    every, few = (EpochSampler(file.examples, sampling, 1) for file in (whole, lean))
    assert all(every.epoch(number) == few.epoch(number) for number in range(1, 9))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        (mined(1, positives=[]), "none of its 1 questions has a positive passage; mine some"),
        ("[]", "no questions in it"),
        ('[\n{"question": "q", "positive_ctxs": [{"text": "t"}]},\n', "not closed"),
        ('[\n{"question": "q", "positive_ctxs": [{"text": "t"]}\n]', "not closed|broken JSON"),
        ('[\n{"question" "q"}\n]', ":2: broken JSON"),
        ('[\n{"question": "q", "positive_ctxs": [{"text": "t"}]},\n17, {}\n]', ":3: '17, {}' in the array is no entry"),
        ('[{"question": "q", "positive_ctxs": [{"text": "t"}]}]\n x\n', ":2: 'x' in the array is no entry"),
        (mined(1) + "[" * 100_000 + "\n", ":2: JSON too deep"),
        (mined(1, query="q \ud83d"), ":1: the question has half a surrogate pair"),
        (mined(1, positives=[{"text": "t \ud83d"}]), r":1: positives\[0\] has half a surrogate pair"),
        (mined(1) + "{nonsense\n", ":2: broken JSON"),
        (mined(1) + mined(2, query="  "), ":2: the question is empty"),
        (mined(1, query=None), ":1: the question is empty"),
        (mined(1) + '{"query": "q"}\n', ":2: neither 'positives'"),
        ('"text"\n', ":1: not a JSON object"),
        (mined(1, positives=[{"docid": "d"}]), r":1: positives\[0\] has no text"),
        (mined(1, positives=[{"text": "t", "title": 3}]), "'title' is int"),
        (mined(1, positives={"text": "t"}), "'positives' must be a list"),
        (mined(1, answers="x"), "'answers' must be a list of strings"),
    ],
)
def test_bad_files_are_one_line(tmp_path, text, said):
    path = tmp_path / "train.jsonl"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_training_file(str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_absent_file():
    with pytest.raises(InputError, match="no such file"):
        read_training_file("/nowhere/train.jsonl")


def passage(name: str, text: str = "") -> Passage:
    return Passage(name, "", text or f"text of {name}")


def example(name: str, hard: int = 3, plain: int = 0, answers=()) -> Example:
    return Example(
        name,
        f"question {name}",
        tuple(answers),
        (passage(f"{name}+"), passage(f"{name}++")),
        tuple(passage(f"{name}-{place}") for place in range(hard)),
        tuple(passage(f"{name}={place}") for place in range(plain)),
    )


FOUR = [example(name) for name in "abcd"]


def docids(group):
    return [item.docid for item in group.passages]


@given(st.integers(1, 6), st.integers(0, 3), st.booleans(), st.integers(0, 99), st.integers(1, 50))
def test_an_epoch_is_a_function_of_seed_and_number(size, negatives, in_batch, seed, epoch):
    examples = [example(str(place)) for place in range(7)]
    sampling = Sampling(size, negatives, in_batch)
    sampler = EpochSampler(examples, sampling, seed)
    random.seed(epoch)
    steps = sampler.epoch(epoch)
    sampler.epoch(epoch + 1)
    assert sampler.epoch(epoch) == steps == EpochSampler(examples, sampling, seed).epoch(epoch)
    assert sorted(group.query for step in steps for group in step) == sorted(e.query for e in examples)
    assert [len(step) for step in steps] == [size] * (7 // size) + ([7 % size] if 7 % size else [])


def test_epochs_and_seeds_differ():
    examples = [example(str(place)) for place in range(30)]
    epochs = [EpochSampler(examples, Sampling(), seed).epoch(n) for seed, n in ((1, 1), (1, 2), (2, 1))]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def test_in_batch_negatives_are_the_papers():
    # Method section 5: 4 questions with a hard negative each give 7 negatives for each question.
    (step,) = EpochSampler(FOUR, Sampling(4, 1, True, filter_answers=False), 3).epoch(1)
    hard = {docids(group)[0][0]: None for group in step}
    for group in step:
        own = docids(group)[0][0]
        assert docids(group)[0] == f"{own}+"
        negatives = docids(group)[1:]
        assert len(negatives) == 7
        assert {docid for docid in negatives if docid.endswith("+")} == {f"{other}+" for other in hard if other != own}
        assert sorted(docid[:2] for docid in negatives if "-" in docid) == ["a-", "b-", "c-", "d-"]


def test_the_authors_steps_are_two_pairs():
    sampling = Sampling(4, 1, True, filter_answers=False, pairs_per_step=2)
    steps = EpochSampler(FOUR, sampling, 3).epoch(1)
    assert len(steps) == 14
    assert all(len(step) == 2 and all(len(group.passages) == 2 for group in step) for step in steps)


def test_ordinary_negatives_stand_in():
    (step,) = EpochSampler([example("a", 0, 2)], Sampling(4, 1), 1).epoch(1)
    assert docids(step[0])[1].startswith("a=")
    (step,) = EpochSampler([example("a", 0, 0)], Sampling(4, 1, pairs_per_step=2), 1).epoch(1)
    assert docids(step[0]) == ["a+"]


def test_ordinary_negatives_stand_in_for_hard_ones_that_hold_an_answer():
    false, bread, moon = passage("film", "a film called Paris"), passage("bread"), passage("moon")
    made = Example("a", "capital of France", ("Paris",), (passage("a+"),), (false,), (false, bread))
    (step,) = EpochSampler([made], Sampling(), 1).epoch(1)
    assert docids(step[0]) == ["a+", "bread"]
    # Not beside a hard one that is left, and not where nothing is checked.
    (step,) = EpochSampler([dataclasses.replace(made, hard=(false, moon))], Sampling(negatives=2), 1).epoch(1)
    assert docids(step[0]) == ["a+", "moon"]
    (step,) = EpochSampler([made], Sampling(filter_answers=False), 1).epoch(1)
    assert docids(step[0]) == ["a+", "film"]


def test_false_negatives_are_left_out_unless_faithful():
    shared = passage("shared", "the capital is Paris")
    first = Example("a", "capital of France", ("Paris",), (passage("a+"),), (shared, passage("sure")))
    second = Example("b", "where is the tower", (), (shared,), ())
    for filtered in (True, False):
        sampler = EpochSampler([first, second], Sampling(2, 2, True, filter_answers=filtered), 1)
        groups = {group.query: docids(group) for group in sampler.epoch(1)[0]}
        assert ("shared" in groups["capital of France"]) != filtered
    assert groups["where is the tower"].count("shared") == 2
    filtered = EpochSampler([second, first], Sampling(2, 2, True), 1).epoch(1)[0]
    # Its own positive is no negative, though another question lists it as one.
    assert all(docids(group).count("shared") <= 1 for group in filtered)


def test_random_positive_on_demand():
    sampler = EpochSampler([example("a")], Sampling(any_positive=True), 1)
    drawn = {docids(sampler.epoch(number)[0][0])[0] for number in range(1, 30)}
    assert drawn == {"a+", "a++"}


@pytest.mark.parametrize(
    "sampling", [Sampling(2, 2), Sampling(4, 1, True, pairs_per_step=2), Sampling(any_positive=True)]
)
def test_no_negatives_are_read_for_a_loss_that_looks_at_none(sampling):
    whole, alone = EpochSampler(FOUR, sampling, 3).epoch(2), EpochSampler(FOUR, sampling, 3, compares=False).epoch(2)
    assert [[(group.query, group.passages[:1]) for group in step] for step in whole] == [
        [(group.query, group.passages) for group in step] for step in alone
    ]
