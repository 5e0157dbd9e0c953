"""Docids that Pyserini's topics of BRIGHT must not find."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from qpeft_rerank.collection import lucene
from qpeft_rerank.collection.index import LuceneIndex
from qpeft_rerank.errors import InputError
from qpeft_rerank.retrieve import _run_lines
from qpeft_rerank.trec.topics import Topic

TOPICS = {topic: Topic(topic, "radium") for topic in ("1", "2")}


class Searcher:
    """Finds the same three passages for everything, the second with white space around its docid."""

    def __getattr__(self, name: str):
        return lambda *given: None

    def search(self, text: str, hits: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(docid=docid, score=score) for docid, score in (("a", 3.0), (" b\n", 2.0), ("c", 1.0))]

    def batch_search(self, texts: list[str], ids: list[str], hits: int, threads: int) -> dict:
        return {topic: self.search("", hits) for topic in ids}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that Pyserini is asked about."""
    names: list[str] = []

    def excluded(name: str) -> dict[str, list[str]]:
        names.append(name)
        return {"1": ["b", "z"], "7": ["a"]} if "bright-aops" in name else {}

    monkeypatch.setattr(lucene, "_search_base", lambda: SimpleNamespace(get_bright_excluded_ids=excluded))
    return names


@pytest.mark.parametrize("threads", [1, 2])
def test_they_are_left_out_and_ranks_close_up(asked: list[str], threads: int) -> None:
    index = LuceneIndex("bright-aops", Searcher(), lambda name: [], lucene._excluded("bright-aops"))
    for _ in range(2):
        lines = list(_run_lines(index.search(TOPICS, threads=threads), {}))
        assert lines[:2] == ["1 Q0 a 1 3.000000 Anserini\n", "1 Q0 c 2 1.000000 Anserini\n"]
        assert [line.split()[2] for line in lines[2:]] == ["a", "b", "c"]
    assert asked == ["bright-aops"]


@pytest.mark.parametrize("name", ["msmarco-passage", "bright-biology", str(Path("a") / "bright-lights")])
def test_other_indexes_find_all(asked: list[str], name: str) -> None:
    index = LuceneIndex(name, Searcher(), lambda name: [], lucene._excluded(name))
    assert [len(hits) for _, hits in index.search(TOPICS)] == [3, 3]
    assert asked == ([name] if "bright-" in name else [])


def test_what_cannot_be_had_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str) -> dict:
        raise ConnectionError("Couldn't reach 'xlangai/BRIGHT'\non the Hub")

    monkeypatch.setattr(lucene, "_search_base", lambda: SimpleNamespace(get_bright_excluded_ids=offline))
    index = LuceneIndex("bright-aops", Searcher(), lambda name: [], lucene._excluded("bright-aops"))
    with pytest.raises(InputError, match=r"^index bright-aops: which passages .* \(Couldn't reach 'xlangai/BRIGHT' on"):
        list(index.search(TOPICS))


@pytest.mark.slow
def test_pyserini_is_asked_for_what_it_has() -> None:
    pytest.importorskip("jnius_config", reason="Pyserini is not installed")
    assert lucene._search_base().get_bright_excluded_ids("bright-biology") == {}
