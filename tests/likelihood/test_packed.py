"""Rows read one after another have the states that they have in a padded table, and in no company."""

import pytest
import tiny
import torch

from qpeft_rerank.likelihood import body as bodies
from qpeft_rerank.likelihood.body import Body
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.packed import Packed, saves

LENGTHS = [9, 31, 12, 7]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return LanguageModel.load(str(tiny.save_model(tmp_path_factory.mktemp("model") / "m")), "float32", "cpu")


def vectors(model: LanguageModel) -> torch.Tensor:
    """Embeddings of rows that begin with the same 4 tokens, ``[rows, tokens, d]``."""
    ids = torch.randint(5, 500, (len(LENGTHS), max(LENGTHS)), generator=torch.Generator().manual_seed(0))
    ids[:, :4] = ids[0, :4]
    return model.embedding(ids)


def body(model: LanguageModel) -> Body:
    assert model.body is not None
    return model.body


@torch.inference_mode()
@pytest.mark.parametrize("lead", [0, 4])
def test_states_are_those_of_a_table(model: LanguageModel, lead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = vectors(model)
    last = [[row, length - 1] for row, length in enumerate(LENGTHS)]
    scored = torch.tensor(last + [[row, 5] for row in range(len(LENGTHS))])
    found = {}
    for way in (True, False):
        monkeypatch.setattr(bodies, "saves", lambda lengths, width, way=way: way)
        found[way] = body(model)(table, scored, lead=lead, lengths=LENGTHS)
    torch.testing.assert_close(found[True], found[False], rtol=0, atol=1e-5)
    for place, (row, at) in enumerate(last):
        alone = body(model)(table[row : row + 1, : at + 1], torch.tensor([[0, at]]))
        torch.testing.assert_close(found[True][place], alone[0], rtol=0, atol=1e-5)


@torch.inference_mode()
def test_what_stands_in_the_padding_does_not_matter(model: LanguageModel) -> None:
    table, scored = vectors(model), torch.tensor([[row, length - 1] for row, length in enumerate(LENGTHS)])
    assert saves(LENGTHS, max(LENGTHS))
    states = body(model)(table, scored, lead=4, lengths=LENGTHS)
    for row, length in enumerate(LENGTHS):
        table[row, length:] = float("nan")
    assert torch.equal(body(model)(table, scored, lead=4, lengths=LENGTHS), states)


def test_tokens_stand_row_after_row() -> None:
    packed = Packed.of([3, 2, 4], 4, 1, torch.device("cpu"))
    assert packed.spans == [(0, 2), (2, 3), (3, 6)]
    table = torch.arange(12).view(3, 4, 1)
    assert packed.row(table).flatten().tolist() == [1, 2, 5, 9, 10, 11]
    scored = torch.tensor([[0, 2], [1, 1], [2, 3]])
    places = packed.places(scored)
    assert packed.row(table)[places[:, 0], places[:, 1]].tolist() == table[scored[:, 0], scored[:, 1]].tolist()


def test_rows_of_like_length_are_read_as_a_table() -> None:
    assert not saves([100] * 8, 100)
    assert not saves([100, 99, 99, 98], 100)
    assert saves([100, 80, 60], 100)
