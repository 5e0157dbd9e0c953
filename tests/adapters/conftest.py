"""Tiny models and prompts that the adapters' tests share."""

import pytest
import tiny
import torch

from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import save_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.prompt import Template, load_template


def loaded(folder, **settings):
    return LanguageModel.load(str(tiny.save_model(folder, **settings)), dtype="float32", device="cpu")


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A tiny Llama with a byte-level tokenizer."""
    return loaded(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="session")
def llama(tmp_path_factory):
    """The same with a tokenizer like Llama-2's."""
    return loaded(tmp_path_factory.mktemp("llama") / "tiny", kind="llama")


@pytest.fixture(scope="session")
def qpeft() -> Template:
    return load_template("qpeft")


@pytest.fixture(scope="session")
def plain() -> Template:
    return load_template("plain")


@pytest.fixture(scope="module")
def smollm2():
    """The embedded model."""
    try:
        return LanguageModel.load("embedded", dtype="float32", device="cpu")
    except InputError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def adapter(model, qpeft):
    """Q-PEFT-R, four of whose rows of E' have moved."""
    made = create_adapter("qpeft-r", model, qpeft, k=3)
    made.cover(range(100))
    with torch.no_grad():
        made.table.rows[5:9] += 1.0
    return made


@pytest.fixture
def folder(adapter, model, qpeft, tmp_path):
    """That one, saved."""
    return save_adapter(adapter, model, qpeft, tmp_path / "mine")
