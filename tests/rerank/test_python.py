"""From Python alone: an index of one's own is searched and its hits are reranked, by this package or by Pyserini itself."""

import pydoc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qpeft_rerank
from qpeft_rerank import InputError, Passage, Ranked, Reranker, Topic, open_index, read_run, read_topics, write_run
from qpeft_rerank.collection.lucene import LuceneIndex
from tests.refusal import refusal

pytest.importorskip("jnius_config", reason="Pyserini is not installed")

QUERY = "first compiler bug"


@pytest.fixture(scope="module")
def reranker(model: str) -> Reranker:
    return Reranker.from_pretrained(model, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def index(tiny_index: Path) -> LuceneIndex:
    return open_index(tiny_index)


@pytest.fixture(scope="module")
def searcher(index: LuceneIndex) -> Any:
    from pyserini.search.lucene import LuceneSearcher  # after this package has seen to Java

    return LuceneSearcher(index._searcher.index_dir)


def test_every_name_of_the_surface_is_there() -> None:
    assert all(getattr(qpeft_rerank, name) is not None for name in qpeft_rerank.__all__)


def test_help_tells_of_them() -> None:
    told = pydoc.plain(pydoc.render_doc(qpeft_rerank))
    assert "class Reranker(" in told and "from_pretrained(" in told and "open_index(name" in told
    assert set(qpeft_rerank.__all__) <= set(dir(qpeft_rerank))


def test_hits_of_pyserini_are_passages(reranker: Reranker, index: LuceneIndex, searcher: Any) -> None:
    hits = searcher.search(QUERY, k=5)
    found = index.fetch([hit.docid for hit in hits])
    passages = [found[hit.docid] for hit in hits]
    assert len(hits) > 1 and any(passage.title for passage in passages)
    ranked: list[Ranked] = reranker.rerank(QUERY, hits)
    assert ranked == reranker.rerank(QUERY, passages)
    assert ranked == reranker.rerank(QUERY, [searcher.doc(hit.docid) for hit in hits])


def test_one_hit_is_no_list(reranker: Reranker, searcher: Any) -> None:
    with pytest.raises(InputError, match=r"write \[passage\]"):
        reranker.rerank(QUERY, searcher.search(QUERY, k=1)[0])


def test_hits_of_an_index_without_texts_are_refused(reranker: Reranker) -> None:
    class Slim:
        """What Lucene gives of a document that holds nothing but its id."""

        def get(self, field: str) -> str | None:
            return {"id": "d7"}.get(field)

    class Hit:
        lucene_document = Slim()

    with pytest.raises(
        InputError, match=r"^passage d7: its index stores no passage text .* use the full index, or give texts$"
    ):
        reranker.score([(QUERY, Hit())])


def test_an_index_is_searched_and_its_run_rewritten(
    reranker: Reranker, index: LuceneIndex, tiny_topics: Path, tmp_path: Path
) -> None:
    topics: dict[str, Topic] = read_topics(str(tiny_topics))
    first = dict(index.search(topics, hits=5))
    result = reranker.rerank_run(first, topics, index)
    assert {topic: len(hits) for topic, hits in result.run.items()} == {t: len(hits) for t, hits in first.items()}
    for topic, hits in first.items():
        passages: list[Passage] = [index.fetch([hit.docid])[hit.docid] for hit in hits]
        ranked = reranker.rerank(topics[topic].text, passages)
        alone = {hits[place].docid: score for place, score in ranked}
        assert dict(result.run[topic]) == pytest.approx(alone, abs=1e-4)
    write_run(str(tmp_path / "out.trec"), result.run, "mine")
    assert [hit.docid for hit in read_run(str(tmp_path / "out.trec"))["100"]] == [d for d, _ in result.run["100"]]


@pytest.mark.parametrize(
    ("topics", "says"),
    [
        ({264014: Topic("264014", "radium")}, "topics, 264014: its id is int; give a string"),
        ({"1": "radium"}, "topics, '1': is str; give Topic(id, text)"),
        ([Topic("1", "radium")], "topics: is list; give a mapping from topics"),
        ({"1": Topic("1", None)}, "topics, '1': its text is NoneType; give a string"),
    ],
)
def test_what_are_no_topics_is_not_searched_with(index: LuceneIndex, topics: Any, says: str) -> None:
    assert refusal(lambda: dict(index.search(topics))) == says


@pytest.mark.parametrize("asked", [{"hits": 0}, {"hits": "20"}, {"hits": 2.5}, {"threads": 0}])
def test_what_is_no_count_is_not_searched_for(index: LuceneIndex, asked: dict[str, Any]) -> None:
    ((name, value),) = asked.items()
    said = refusal(lambda: dict(index.search({"1": Topic("1", "radium")}, **asked)))
    assert said == f"{name} {value!r}: give a whole number from 1"


def test_topics_go_by_their_keys_and_counts_may_be_numpy_s(index: LuceneIndex) -> None:
    topics = {"q1": Topic("another", "radium machine")}
    assert dict(index.search(topics, hits=np.int64(1), threads=np.int64(2))) == dict(index.search(topics, hits=1))
    assert list(dict(index.search(topics, hits=1))) == ["q1"]
