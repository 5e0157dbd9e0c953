"""From Python alone: an index of one's own is searched and its hits are reranked, by this package or by Pyserini itself."""

from pathlib import Path
from typing import Any

import pytest

import qpeft_rerank
from qpeft_rerank import InputError, Passage, Ranked, Reranker, Topic, open_index, read_run, read_topics, write_run
from qpeft_rerank.collection.lucene import LuceneIndex

pytest.importorskip("jnius_config", reason="Pyserini is not installed")

QUERY = "first compiler bug"


@pytest.fixture(scope="module")
def reranker(model: str) -> Reranker:
    return Reranker.from_pretrained(model, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def index(tiny_index: Path) -> LuceneIndex:
    return open_index(str(tiny_index))


@pytest.fixture(scope="module")
def searcher(index: LuceneIndex) -> Any:
    from pyserini.search.lucene import LuceneSearcher  # after this package has seen to Java

    return LuceneSearcher(index._searcher.index_dir)


def test_every_name_of_the_surface_is_there() -> None:
    assert all(getattr(qpeft_rerank, name) is not None for name in qpeft_rerank.__all__)


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
