"""Every hint embedding that training may touch has a row that trains."""

import dataclasses

import pytest

from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.training import students
from qpeft_rerank.training.examples import Example
from qpeft_rerank.training.sampler import EpochSampler, Sampling
from qpeft_rerank.training.students import make_student


def passage(name, text):
    return (Passage(name, "", text),)


ANSWERED = Example(
    "q", "who jumps", ("fox",), passage("p", "the fox"), passage("h", "a quick fox"), passage("n", "9876543210")
)


@pytest.fixture(scope="module")
def model(model_folder):
    return LanguageModel.load(str(model_folder), "float32", "cpu")


def made(model, examples, sampling, **options):
    return make_student("qpeft-r", model, load_template("plain"), "corrected", options, examples, 1, None, sampling)


def uncovered(model, examples, sampling, **options):
    """Ids that hints are made from in an epoch and that have no row."""
    student = made(model, examples, sampling, **options)
    touched = set()
    for step in EpochSampler(examples, sampling, 1).epoch(1):
        touched |= student.hinter.touched(sequence for group in student.encode(step) for sequence in group)
    assert touched
    return touched - set(student.hinter.table.row_ids.tolist())


def test_negatives_that_stand_in(model):
    assert not uncovered(model, [ANSWERED], Sampling())
    assert not uncovered(model, [ANSWERED], Sampling(filter_answers=False))


LONG = Example(
    "1", "who " * 50, (), passage("p", "a " * 190 + "quick fox jumps over 9876543210"), passage("n", "b " * 100)
)
SHORT = Example("2", "who", (), passage("q", "c " * 100), passage("m", "d " * 100))


@pytest.mark.parametrize("filters", ["d", "dq"])
def test_passages_of_a_longer_question_beside_a_shorter(model, monkeypatch, filters):
    monkeypatch.setattr(students, "_CHUNK", 1)
    examples = [LONG, dataclasses.replace(LONG, query="who " * 60), SHORT]
    assert not uncovered(model, examples, Sampling(3, in_batch=True), filters=filters)


def test_passages_stay_beside_their_own_question_without_in_batch(model):
    alone, together = (made(model, [LONG, SHORT], Sampling(in_batch=in_batch)).trained for in_batch in (False, True))
    assert alone < together
