"""From what the user typed to topics, first stages, passages and judgments."""

import os
from collections.abc import Mapping
from pathlib import Path

from qpeft_rerank.collection.passages import Passages
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.qrels import Qrels, read_qrels
from qpeft_rerank.trec.runs import Run
from qpeft_rerank.trec.topics import Topic, read_topics

EMBEDDED = "embedded"
#: The judgment that needs no qrels file: DPR's ``has_answer`` with the topics' own answers.
ANSWERS = "answers"
_FILE_ENDINGS = (".tsv", ".txt", ".jsonl", ".json", ".trec", ".gz")


def find_topics(name: str) -> dict[str, Topic]:
    """Topics from a file, from ``embedded``, or by a name that Pyserini knows.

    :raises InputError: for a file that does not exist or is malformed, and for an unknown name.
    """
    if name == "-" or os.path.exists(name):
        return read_topics(name)
    if name == EMBEDDED:
        from qpeft_rerank.collection.embedded import demo_topics

        return demo_topics()
    if os.sep in name or name.endswith(_FILE_ENDINGS):
        raise InputError(f"{name}: no such topics file; give a file or the name of a topic set")
    from qpeft_rerank.collection.lucene import load_topics

    return load_topics(name)


def topics_of_index(index: str) -> str:
    """The name of the topics that go with an index when none are named."""
    if index == EMBEDDED:
        return EMBEDDED
    from qpeft_rerank.collection.lucene import default_topics

    name = default_topics(index)
    if name is None:
        raise InputError(f"index {index} has no default topics; name some with --topics")
    return name


def search(index: str, topics: Mapping[str, Topic], hits: int, threads: int = 1, order: str | None = None) -> Run:
    """The BM25 first stage of an index, with Pyserini's parameters for it."""
    from qpeft_rerank.collection.lucene import open_index

    opened = open_index(index)
    found = opened.search(topics, hits=hits, threads=threads, order=order)
    return {topic: listed for topic, listed in found if listed}


def find_passages(index: str | None, corpus: str | None) -> Passages:
    """The passages' texts: from ``--corpus`` where given, else stored in the index."""
    if corpus is not None:
        from qpeft_rerank.collection.jsonl import CorpusFile

        if not os.path.isfile(corpus):
            raise InputError(f"--corpus {corpus}: no such file; give JSONL or TSV passages")
        return CorpusFile(corpus)
    if index is None:
        raise InputError("a run names passages but does not hold them; add --corpus FILE or --index NAME")
    from qpeft_rerank.collection.lucene import open_index

    return open_index(index)


def find_qrels(name: str, run: Run, topics: Mapping[str, Topic], passages: Passages) -> Qrels:
    """Judgments from a file, by a name that Pyserini knows, or ``answers``: the topics' own.

    With ``answers``, a passage of the run is relevant when its text (not its title) contains one of
    the topic's answers, as DPR matches them. Topics without answers are left out.
    """
    if name == ANSWERS:
        from qpeft_rerank.trec.answers import qrels_from_answers

        answered = {topic: value for topic, value in topics.items() if value.answers}
        if not answered:
            raise InputError("--qrels answers: none of the topics has answers; give a qrels file or name")
        docids = list(dict.fromkeys(hit.docid for topic, hits in run.items() if topic in answered for hit in hits))
        passages.prepare(docids)
        texts = {docid: passage.text for docid, passage in passages.fetch(docids).items()}
        return qrels_from_answers(answered, run, texts)
    if os.path.exists(name):
        return read_qrels(name)
    if os.sep in name or name.endswith(_FILE_ENDINGS):
        raise InputError(f"{name}: no such qrels file; give a file, the name of a qrels set, or 'answers'")
    from qpeft_rerank.collection.lucene import load_qrels

    return load_qrels(name)


def label(name: str) -> str:
    """A short word for an index or topics in a run's file name: the last part of a path, no ending."""
    return Path(name).name.split(".")[0] if os.sep in name or os.path.exists(name) else name
