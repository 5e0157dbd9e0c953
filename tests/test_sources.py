"""From what the user types to topics, passages and judgments."""

from pathlib import Path

import pytest

from qpeft_rerank import sources
from qpeft_rerank.collection.jsonl import CorpusFile
from qpeft_rerank.collection.lucene import check_index
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic

TOPICS = {
    "a": Topic("a", "who wrote the first program", ("Analytical Engine",)),
    "b": Topic("b", "who found radium", ("polonium", "radium")),
    "c": Topic("c", "no answers known"),
}
RUN = {
    "a": [Hit("30", 3.0, 1), Hit("nowhere", 2.0, 2), Hit("5", 1.0, 3)],
    "c": [Hit("30", 1.0, 1)],
}


@pytest.mark.parametrize("at_once", [1, 64])
def test_answers_judge_what_the_collection_has(
    tiny_corpus: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "_JUDGED_AT_ONCE", at_once)
    qrels = sources.find_qrels("answers", RUN, TOPICS, CorpusFile(str(tiny_corpus)))
    # Topic b found nothing: it stays, so that it counts 0. Topic c cannot be judged.
    assert qrels == {"a": {"30": 1, "5": 0}, "b": {}}


def test_judgments_go_no_deeper_than_asked(tiny_corpus: Path) -> None:
    qrels = sources.find_qrels("answers", RUN, TOPICS, CorpusFile(str(tiny_corpus)), depth=1)
    assert qrels["a"] == {"30": 1}


@pytest.mark.parametrize("name", ["absent.tsv", "folder/absent", "absent.jsonl.gz"])
def test_what_looks_like_a_file_is_never_taken_for_a_name(name: str) -> None:
    with pytest.raises(InputError, match="no such topics file"):
        sources.find_topics(name)
    with pytest.raises(InputError, match="no such qrels file"):
        sources.find_qrels(name, RUN, TOPICS, CorpusFile("unread"))


def test_a_folder_called_as_a_set_does_not_stand_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("embedded", "mine.tsv"):
        (tmp_path / name).mkdir()
    assert len(sources.find_topics("embedded")) > 100
    check_index("embedded")
    for find in (sources.find_topics, sources.named_qrels):
        with pytest.raises(InputError, match=r"mine\.tsv: is a directory; give a file"):
            find("mine.tsv")


def test_an_index_without_topics_of_its_own_wants_some_named() -> None:
    assert sources.topics_of_index("embedded") == "embedded"
    assert sources.topics_of_index("msmarco-passage") == "dl19-passage"
    assert sources.topics_of_index("wikipedia-dpr-100w") == "dpr-nq-test"
    with pytest.raises(InputError, match="name some with --topics"):
        sources.topics_of_index("my-index")


def test_labels_are_the_last_part_of_a_path(tmp_path: Path) -> None:
    assert sources.label("msmarco-v1-passage.bge") == "msmarco-v1-passage.bge"
    assert sources.label(str(tmp_path / "topics.dl19.tsv.gz")) == "topics.dl19"
    assert sources.label(str(tmp_path / "lucene-index.wiki.2022")) == "lucene-index.wiki.2022"
    assert sources.label(f"{tmp_path}/none/..") == tmp_path.name
    assert sources.label(f"{tmp_path}/.tsv") == ".tsv"
