"""Indexes of others with docids or texts that a run or a reranker cannot take as they are."""

import json
from pathlib import Path

import pytest

from qpeft_rerank.collection import jvm
from qpeft_rerank.collection.building import build_index
from qpeft_rerank.collection.lucene import LuceneIndex, open_index
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.topics import Topic
from tests.by_hand import index_by_hand
from tests.refusal import refusal

pytest.importorskip("jnius_config", reason="Pyserini is not installed")
pytestmark = pytest.mark.slow


def built(folder: Path, *passages: tuple[str, str]) -> LuceneIndex:
    """An index of passages, each with its docid."""
    (folder / "passages").mkdir()
    lines = [json.dumps({"id": docid, "contents": text}) + "\n" for docid, text in passages]
    (folder / "passages" / "p.jsonl").write_text("".join(lines))
    return open_index(str(build_index(folder / "passages", folder / "index")))


def damage(index: Path, ending: str) -> None:
    """Turn the bytes of one of an index's files, but for those at its ends, which are looked at when it is opened."""
    (path,) = index.glob(f"*.{ending}")
    data = path.read_bytes()
    path.write_bytes(data[:80] + bytes(byte ^ 0x5A for byte in data[80:-40]) + data[-40:])


def test_a_passage_that_cannot_be_read_is_not_missing(tmp_path: Path) -> None:
    built(tmp_path, *((f"d{number}", f"radium {number} " * 50) for number in range(50)))
    damage(tmp_path / "index", "fdt")
    index = open_index(str(tmp_path / "index"))
    assert index.fetch(["nowhere", "a b"]) == {}
    said = refusal(index.fetch, ["nowhere", "d7", "d8"])
    assert said == f"index {tmp_path}/index: passage d7 cannot be read; copy or build the index again"
    said = refusal(lambda: list(index.search({"7": Topic("7", "radium")})))
    assert said.startswith(f"index {tmp_path}/index: cannot be read (JVM exception occurred: java.") and len(said) < 400
    assert said.endswith("); copy or build the index again")


def test_ids_that_cannot_be_read_are_not_missing(tmp_path: Path) -> None:
    built(tmp_path, *((f"d{number}", f"radium {number} " * 50) for number in range(50)))
    damage(tmp_path / "index", "tim")
    index = open_index(str(tmp_path / "index"))
    for ask in (index.fetch, index.first_absent):
        assert refusal(ask, ["d7"]).startswith(f"index {tmp_path}/index: cannot be read (JVM exception occurred: ")


def test_docids_that_no_run_can_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="docid 'a b' is empty or has white space"):
        list(built(tmp_path, ("a b", "radium")).search({"1": Topic("1", "radium")}))


def test_passages_that_share_a_docid_are_refused_once_a_topic_finds_two(tmp_path: Path) -> None:
    index = built(tmp_path, ("a", "radium and polonium"), ("b", "radium"), ("a", "radium"))
    ((_, hits),) = index.search({"1": Topic("1", "polonium")})
    assert [hit.docid for hit in hits] == ["a"]
    with pytest.raises(InputError, match="topic 2 finds several passages with the docid a, "):
        list(index.search({"2": Topic("2", "radium")}))


def test_white_space_around_a_docid_is_the_index_s_own(tmp_path: Path) -> None:
    index = built(tmp_path, ("x\r", "radium"))
    ((_, hits),) = index.search({"1": Topic("1", "radium")})
    assert [hit.docid for hit in hits] == ["x"] and index.first_absent(["x"]) is None
    assert index.first_absent(["x", "y"]) == "y"
    assert index.fetch(["x"])["x"].text == "radium"


def test_a_run_of_another_process_has_none_of_that_white_space(tmp_path: Path) -> None:
    index = built(tmp_path, ("x\r", "radium"), ("y", "radium"), (" z ", "radium"), ("x1\n", "radium"))
    docids = ["y", "x", "z", "x1"]
    assert index.first_absent(docids) is None and index.first_absent([*docids, "w"]) == "w"
    again = open_index(str(tmp_path / "index"))
    assert set(again.fetch([*docids, "w"])) == set(docids) and again.fetch(["x"])["x"] == Passage("x", "", "radium")


def test_an_index_without_docids_is_no_fault_of_the_query(tmp_path: Path) -> None:
    jvm.start()
    from jnius import autoclass

    place = autoclass("java.nio.file.Paths").get(str(tmp_path / "own"))
    writer = autoclass("org.apache.lucene.index.IndexWriter")(
        autoclass("org.apache.lucene.store.FSDirectory").open(place),
        autoclass("org.apache.lucene.index.IndexWriterConfig")(),
    )
    document = autoclass("org.apache.lucene.document.Document")()
    stored = autoclass("org.apache.lucene.document.Field$Store").YES
    document.add(autoclass("org.apache.lucene.document.TextField")("contents", "radium", stored))
    writer.addDocument(document)
    writer.close()
    own = open_index(str(tmp_path / "own"))
    said = refusal(lambda: list(own.search({"7": Topic("7", "radium")})))
    assert "topic 7 finds a document without the field id" in said and "shorten" not in said


def test_contents_serve_where_nothing_else_is_stored(tmp_path: Path) -> None:
    (tmp_path / "passages").mkdir()
    records = [{"id": "a", "contents": '"Curie"\nShe found radium.'}, {"id": "b", "contents": "radium"}]
    (tmp_path / "passages" / "p.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    index_by_hand(tmp_path / "passages", tmp_path / "index", "-storeContents")
    found = open_index(str(tmp_path / "index")).fetch(["a", "b"])
    assert found == {"a": Passage("a", "Curie", "She found radium."), "b": Passage("b", "", "radium")}


def test_an_index_without_text_says_so(tiny_corpus: Path, tmp_path: Path, topics: dict[str, Topic]) -> None:
    index_by_hand(tiny_corpus.parent, tmp_path / "slim")
    slim = open_index(str(tmp_path / "slim"))
    assert len(dict(slim.search(topics))["10"]) > 0
    assert "stores no passage text (a -slim index" in refusal(slim.fetch, ["7"])
    assert "--rm3 needs" in refusal(lambda: next(slim.search(topics, rm3=True)))
