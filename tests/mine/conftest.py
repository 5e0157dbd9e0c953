"""The files of a mining."""

import json

import pytest

from tests.mine.words import PASSAGES, RUN, TOPICS


@pytest.fixture
def files(tmp_path):
    (tmp_path / "corpus.jsonl").write_text(
        "".join(json.dumps({"id": d, "title": t, "text": x}) + "\n" for d, (t, x) in PASSAGES.items())
    )
    (tmp_path / "topics.jsonl").write_text("".join(json.dumps(topic) + "\n" for topic in TOPICS))
    lines = (f"{t} Q0 {d} {rank} {100 - rank} bm25\n" for t, ds in RUN.items() for rank, d in enumerate(ds, 1))
    (tmp_path / "run.trec").write_text("".join(lines))
    return tmp_path
