"""What several rooms' tests share: the development data, and one small real Lucene index."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from qpeft_rerank.neighbours import processors
from tests.browser import Browse, browser

if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
    # Before torch is loaded: workers that share processors stand in each other's way.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, processors() // int(workers))))

# How long an example takes is the machine's affair, not the test's.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

ROOT = Path(__file__).resolve().parent.parent

# Ids are digits out of order, so that Lucene's internal numbers differ from them; 12 and 3 are equal
# texts, so that scores tie; 40 has a second newline, 41 no text, 42 no title.
PASSAGES = [
    (
        "30",
        "Ada Lovelace",
        "Ada Lovelace wrote the first program for the Analytical Engine of Charles Babbage.",
    ),
    ("7", "Alan Turing", "Alan Turing described a universal machine and broke the Enigma cipher."),
    ("12", "Grace Hopper", "Grace Hopper wrote the first compiler and popularised the word bug."),
    ("3", "Grace Hopper", "Grace Hopper wrote the first compiler and popularised the word bug."),
    ("21", "Kurt Gödel", "Kurt Gödel proved that arithmetic is incomplete."),
    ("1", "Emmy Noether", "Emmy Noether showed that symmetries give conservation laws."),
    ("0", "Marie Curie", "Marie Curie discovered polonium and radium and won two Nobel prizes."),
    ("5", "Charles Babbage", "Charles Babbage designed the Difference Engine, a machine for tables."),
    ("40", "Two lines", "The first line is about compilers.\nThe second line is about machines."),
    ("41", "Empty", ""),
    ("42", "", "A passage without a title about a machine that wrote the first program."),
]
TOPICS = [
    ("10", "who wrote the first program"),
    ("9", "universal machine"),
    ("100", "first compiler bug"),
    ("11", "nobel prizes radium"),
    ("12", "zzzz qqqq"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick tests first: a fault shows within minutes."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of development data beside the project; users never have it."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no development data at {folder}")
    return folder


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eleven passages as JSONL, in the shape of wikipedia-dpr-100w."""
    path = tmp_path_factory.mktemp("corpus") / "passages.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for docid, title, text in PASSAGES:
            contents = f'"{title}"\n{text}' if title else text
            stream.write(json.dumps({"id": docid, "contents": contents}) + "\n")
    return path


@pytest.fixture(scope="session")
def tiny_topics(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five topics as TSV, the last of which finds nothing."""
    path = tmp_path_factory.mktemp("topics") / "topics.tsv"
    path.write_text("".join(f"{topic}\t{text}\n" for topic, text in TOPICS), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_index(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real Lucene index of ``tiny_corpus``."""
    pytest.importorskip("jnius_config", reason="Pyserini is not installed")
    from qpeft_rerank.collection.building import build_index

    return build_index(tiny_corpus.parent, tmp_path_factory.mktemp("index") / "tiny")


@pytest.fixture
def browse(tmp_path: Path) -> Iterator[Browse]:
    """A function from a file and a width to the DOM that Chromium makes of it, and the requests that went out."""
    yield from browser(tmp_path)
