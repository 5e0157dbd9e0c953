"""Passages, topics and a run to mine, the words of a good mining command, and what it wrote or said."""

import json

from qpeft_rerank import mine

PASSAGES = {
    "d1": ("France", "The capital of France is Paris, on the Seine."),
    "d2": ("Paris", "Paris is a city of art."),
    "d3": ("Rome", "The capital of Italy is Rome."),
    "d4": ("Berlin", "The capital of Germany is Berlin."),
    "d5": ("Sea", "Water covers most of the earth."),
    "d6": ("Copy", "The capital of France is Paris, on the Seine."),
    "d7": ("", "   "),
}
TOPICS = [
    {"id": "t1", "question": "what is the capital of France", "answers": ["Paris"]},
    {"id": "t2", "question": "what is the capital of Italy", "answers": ["Rome"]},
    {"id": "t3", "question": "what covers the earth", "answers": ["lava"]},
    {"id": "t4", "question": "capital of Germany", "answers": ["Berlin"]},
]
RUN = {
    "t1": ["d3", "d1", "d6", "d7", "d2", "d4", "d5"],
    "t2": ["d1", "d3", "d4"],
    "t3": ["d5", "d1"],
    "t4": ["d4"],
}


def command(files, *more, run="run.trec", topics="topics.jsonl"):
    given = ["--run", str(files / run), "--corpus", str(files / "corpus.jsonl"), "--topics", str(files / topics)]
    return [*given, "--output", str(files / "out.jsonl"), *map(str, more)]


def written(files):
    return {record["qid"]: record for record in map(json.loads, (files / "out.jsonl").read_text().splitlines())}


def docids(record, kind):
    return [passage["docid"] for passage in record[kind]]


def bad(files, capsys, *more, **names):
    status = mine.main(command(files, *more, **names))
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert status == 2 and said.startswith("error: ")
    return said
