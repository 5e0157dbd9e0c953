"""A data folder in the shape that scale mini takes: two question sets over one small collection."""

import dataclasses
import json
from pathlib import Path

import pytest
import tiny

from eval.chain import Chain
from eval.conditions import conditions_of
from eval.design import FOLDER, load_matrix
from eval.store import Store
from tests.eval import made

CITIES = {
    "France": "Paris",
    "Italy": "Rome",
    "Germany": "Berlin",
    "Spain": "Madrid",
    "Norway": "Oslo",
    "Poland": "Warsaw",
    "Greece": "Athens",
    "Japan": "Tokyo",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Kenya": "Nairobi",
}


def topic(number: int, country: str, wording: str) -> str:
    record = {"id": str(number), "question": wording.format(country), "answers": [CITIES[country]]}
    return json.dumps(record) + "\n"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    countries = list(CITIES)
    with (folder / "corpus.jsonl").open("w") as corpus:
        for n, (country, city) in enumerate(CITIES.items()):
            texts = [
                (city, f"{city} is the capital of {country} and a large city."),
                (country, f"{country} is a country with a capital and many a city."),
                (f"History of {country}", f"The history of {country} is long; its rulers lived in {city}."),
            ]
            for part, (title, text) in enumerate(texts):
                corpus.write(json.dumps({"id": f"{n}{part}", "contents": f'"{title}"\n{text}'}) + "\n")
    for name, wording in (("nq", "what is the capital of {}"), ("squad", "which city did the rulers of {} live in")):
        for split, chosen in (("test", countries[:6]), ("dev", countries[6:8]), ("train", countries[8:])):
            lines = [topic(n, country, wording) for n, country in enumerate(chosen)]
            (folder / f"topics.{name}.{split}.jsonl").write_text("".join(lines))
    return folder


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Data folder, chain and store of finished runs of two sets, dev runs included."""
    folder, matrix = tmp_path_factory.mktemp("mixing"), load_matrix()
    data = made.data_folder(folder / "data", ("nq", "squad"), 16)
    scale = dataclasses.replace(matrix.scales["mini"], model="no/model", depth=16, dev_queries=8)
    chain, store = Chain(scale, data, FOLDER / "prompts"), Store(folder / "work")
    table = dataclasses.replace(
        matrix.tables["main"], datasets=["nq", "squad"], methods=["first-stage", "zero-shot", "qpeft-a"]
    )
    conditions = conditions_of(matrix, table)
    made.finish(conditions, chain, store, dev=True)
    return data, chain, store


@pytest.fixture
def mixed_words(mixed, tmp_path):
    """The flags that mean them, methods last."""
    data, _, store = mixed
    size = ["--model", "no/model", "--depth", "16", "--dev-queries", "8"]
    where = ["--data", str(data), "--work", str(store.work), "--results", str(tmp_path / "out")]
    methods = ["--methods", "first-stage", "zero-shot", "qpeft-a"]
    return ["--table", "main", "--datasets", "nq", "squad", *size, *where, *methods]
