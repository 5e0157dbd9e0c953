"""Eight questions, a tiny random Llama, and a small adapter that is not this package's."""

import pytest
import tiny
import torch
from torch import nn

from qpeft_rerank.adapters.base import TrainablePart
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.sources import ModelSource
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.training.examples import Example
from qpeft_rerank.training.loop import Trainer
from qpeft_rerank.training.student import Student

THINGS = {
    "sun": "The sun is a star at the centre of the solar system and it is hot",
    "moon": "The moon circles the earth once in a month and has no air",
    "cat": "A cat is a small animal with soft fur that hunts mice at night",
    "bread": "Bread is made of flour and water and baked in a hot oven",
    "river": "A river carries water from the hills down into the sea",
    "piano": "A piano has keys and strings and is played with both hands",
    "snow": "Snow is frozen water that falls from clouds in winter",
    "bee": "A bee makes honey from flowers and lives in a hive with others",
}


class BagHinter(nn.Module):
    """Two hint slots: the mean of the query's and of the passage's own embeddings, through a layer."""

    identity = "bag"

    def __init__(self, embedding: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.rows = nn.Parameter(embedding.weight.detach().clone().float())
        self.layer = nn.Linear(embedding.weight.shape[1], embedding.weight.shape[1])
        self.dropout = nn.Dropout(dropout)

    def hint_tokens(self, query, passage):
        return 2

    def forward(self, sequences, ids, embedded):
        embedded = embedded.clone()
        for row, sequence in enumerate(sequences):
            first, last = sequence.body_span("target")
            start, end = sequence.body_span("passage")
            slots = sequence.body_span("hints")
            hints = torch.stack([self.rows[ids[row, first:last]].mean(0), self.rows[ids[row, start:end]].mean(0)])
            embedded[row, slots[0] : slots[1]] = self.dropout(self.layer(hints)).to(embedded.dtype)
        return embedded


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("tiny") / "llama")


@pytest.fixture
def model(model_folder):
    return LanguageModel.load(ModelSource("tiny", model_folder), "float32", "cpu")


@pytest.fixture
def make_student(model_folder):
    """A function that makes a fresh student: always the same one for the same arguments."""

    def make(dropout: float = 0.0, prompt: str = "plain") -> Student:
        language_model = LanguageModel.load(ModelSource("tiny", model_folder), "float32", "cpu")
        hinter = BagHinter(language_model.embedding, dropout)
        parts = {
            name: TrainablePart(parameter, "embedding" if name == "rows" else "matrix", decay=name == "layer.weight")
            for name, parameter in hinter.named_parameters()
        }
        return Student(language_model, load_template(prompt), hinter.eval(), parts, (hinter,))

    return make


@pytest.fixture
def examples():
    """Eight questions: each thing's text is the positive, three others' the negatives."""
    names = list(THINGS)
    made = []
    for place, name in enumerate(names):
        others = [names[(place + step) % len(names)] for step in (1, 3, 5)]
        made.append(
            Example(
                name,
                f"what is a {name}",
                (name,),
                (Passage(name, name.title(), THINGS[name]),),
                tuple(Passage(other, other.title(), THINGS[other]) for other in others),
            )
        )
    return made


@pytest.fixture
def interrupted(monkeypatch):
    """A function that trains, with Ctrl-C after so many steps; further trainings are left alone."""

    def train(trainer: Trainer, steps: int) -> None:
        step, done = Trainer._step, 0

        def failing(self, *arguments):
            nonlocal done
            if done == steps:
                raise KeyboardInterrupt
            done += 1
            step(self, *arguments)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Trainer, "_step", failing)
            trainer.train()

    return train
