"""Six questions with their passages, and a tiny model, for the training command."""

import json

import pytest
import tiny

from qpeft_rerank.training import session

TEXTS = {
    "sun": "The sun is a star and it is hot",
    "moon": "The moon circles the earth in a month",
    "cat": "A cat is an animal that hunts mice",
    "bread": "Bread is baked in a hot oven",
    "river": "A river carries water to the sea",
    "bee": "A bee makes honey from flowers",
}


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    """More than half the time of so small a training goes into its picture."""
    monkeypatch.setattr(session, "draw", lambda log, picture, first_stage: bool(picture.write_bytes(b"a picture")))


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    return tiny.save_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def files(tmp_path):
    def passage(name):
        return {"docid": name, "title": name.title(), "text": TEXTS[name]}

    names = list(TEXTS)
    lines = [
        {
            "qid": name,
            "query": f"what is a {name}",
            "answers": [name],
            "positives": [passage(name)],
            "negatives": [passage(names[(place + step) % len(names)]) for step in (1, 2, 3)],
        }
        for place, name in enumerate(names)
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": n, "title": n.title(), "text": t}) + "\n" for n, t in TEXTS.items())
    )
    (tmp_path / "topics.jsonl").write_text(
        "".join(json.dumps({"id": n, "question": f"what is a {n}", "answers": [n]}) + "\n" for n in names)
    )
    (tmp_path / "run.trec").write_text(
        "".join(f"{n} Q0 {d} {rank} {-rank} x\n" for n in names for rank, d in enumerate(names, 1))
    )
    return tmp_path
