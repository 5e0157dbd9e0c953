"""Every hint embedding that training may touch has a row that trains."""

import pytest

from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.prompt.templates import load_template
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


def uncovered(model, examples, sampling, **options):
    """Ids that hints are made from in an epoch and that have no row."""
    student = make_student("qpeft-r", model, load_template("plain"), "corrected", options, examples, 1, None, sampling)
    touched = set()
    for step in EpochSampler(examples, sampling, 1).epoch(1):
        touched |= student.hinter.touched(sequence for group in student.encode(step) for sequence in group)
    assert touched
    return touched - set(student.hinter.table.row_ids.tolist())


def test_negatives_that_stand_in(model):
    assert not uncovered(model, [ANSWERED], Sampling())
    assert not uncovered(model, [ANSWERED], Sampling(filter_answers=False))
