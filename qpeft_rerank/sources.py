"""From what the user typed to topics, passages and judgments."""

import os
from collections.abc import Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from qpeft_rerank.collection import irdatasets
from qpeft_rerank.collection.names import LANGUAGES, default_topics
from qpeft_rerank.collection.passages import Passages
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.qrels import Qrels, read_qrels
from qpeft_rerank.trec.runs import Run
from qpeft_rerank.trec.topics import Topic, read_topics

EMBEDDED = "embedded"
#: The judgment that needs no qrels file: DPR's ``has_answer`` with the topics' own answers.
ANSWERS = "answers"
#: Answers that are regular expressions, as CuratedTREC's.
ANSWERS_REGEX = "answers-regex"
# Topics whose passages are held at a time while they are judged.
_JUDGED_AT_ONCE = 64
#: How names of files end that are no names of sets.
FILE_ENDINGS = (".tsv", ".csv", ".txt", ".jsonl", ".json", ".trec", ".qrels", ".qrel", ".gz")
#: How commands that search ask for an index's language.
LANGUAGE_OPTION: dict[str, Any] = {
    "choices": LANGUAGES,
    "metavar": "CODE",
    "help": "of the index, such as de, as Pyserini's (default: a prebuilt one's own, else en)",
}


def find_topics(name: str) -> dict[str, Topic]:
    """Topics from a file, from ``embedded``, by ``ir_datasets:ID``, or by a name that Pyserini knows.

    :raises InputError: for a file that does not exist or is malformed, and for an unknown name.
    """
    if name == "-" or _is_file(name):
        return read_topics(name)
    if name == EMBEDDED:
        from qpeft_rerank.collection.embedded import demo_topics

        return demo_topics()
    if irdatasets.is_named(name):
        return irdatasets.load_topics(name)
    _check_set(name, "topics")
    from qpeft_rerank.collection.lucene import load_topics

    return load_topics(name)


def _is_file(name: str) -> bool:
    """Whether there is such a file, or pipe; a folder may be called as a set of topics is."""
    return os.path.exists(name) and not os.path.isdir(name)


def _check_set(name: str, what: str) -> None:
    """Refuse what is no file, and called as no set of Pyserini's is."""
    if os.sep in name or name.lower().endswith(FILE_ENDINGS):
        why = "is a directory" if os.path.isdir(name) else f"no such {what} file"
        raise InputError(f"{name}: {why}; give a file, or the name of a set of {what}")


def topics_of_index(index: str) -> str:
    """The name of the topics that go with an index when none are named."""
    name = default_topics(index)
    if name is None:
        raise InputError(f"index {index} has no default topics; name some with --topics")
    return name


def say_unfound(topics: Iterable[str], found: Container[str]) -> None:
    """Tell of the topics for which a search found nothing, if there are any: no run holds them."""
    empty = [topic for topic in topics if topic not in found]
    if empty:
        named = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        say(f"{len(empty):,} topics found nothing and are not in the run: {named}")


def find_passages(index: str | None, corpus: str | None, language: str | None = None) -> Passages:
    """The passages' texts: from ``--corpus`` (a file or ``ir_datasets:ID``) where given, else stored in the index.

    :param language: in which the index is searched, should it be; see :func:`~qpeft_rerank.collection.lucene.open_index`.
    """
    if corpus is not None:
        if irdatasets.is_named(corpus):
            return irdatasets.IrPassages(corpus)
        from qpeft_rerank.collection.jsonl import CorpusFile

        if not os.path.isfile(corpus):
            why = "no regular file, and passages are looked up by id" if os.path.exists(corpus) else "no such file"
            raise InputError(f"--corpus {corpus}: {why}; give a file of JSONL or TSV passages")
        return CorpusFile(corpus)
    if index is None:
        raise InputError("a run names passages but does not hold them; add --corpus FILE or --index NAME")
    from qpeft_rerank.collection.lucene import open_index

    return open_index(index, language)


def find_qrels(name: str, run: Run, topics: Mapping[str, Topic], passages: Passages, depth: int | None = None) -> Qrels:
    """Judgments from a file, by ``ir_datasets:ID`` or a name that Pyserini knows, or ``answers``: the topics' own.

    With ``answers``, a passage among the first ``depth`` of the run is relevant when its text (not its
    title) contains one of the topic's answers, as DPR matches them; ``answers-regex`` reads them as regular
    expressions. Topics without answers are left out.
    """
    given = given_qrels(name, topics)
    return _judge_by_answers(run, topics, passages, depth, name == ANSWERS_REGEX) if given is None else given


def given_qrels(name: str, topics: Mapping[str, Topic]) -> Qrels | None:
    """What :func:`find_qrels` gives, where neither run nor passages are needed; None for the topics' answers.

    :raises InputError: for a wrong name, and if no topic has answers.
    """
    if name not in (ANSWERS, ANSWERS_REGEX):
        return named_qrels(name)
    if not any(topic.answers for topic in topics.values()):
        raise InputError("--qrels answers: none of the topics has answers; give a qrels file or name")
    return None


def named_qrels(name: str) -> Qrels:
    """Judgments from a file (``-`` is stdin), by ``ir_datasets:ID`` or a name that Pyserini knows."""
    if name == "-" or _is_file(name):
        return read_qrels(name)
    if irdatasets.is_named(name):
        return irdatasets.load_qrels(name)
    if name in (ANSWERS, ANSWERS_REGEX):
        raise InputError(
            f"--qrels {name}: judges passages, which are not read here; give it to rerank, or a qrels file"
        )
    _check_set(name, "qrels")
    from qpeft_rerank.collection.lucene import load_qrels

    return load_qrels(name)


def _judge_by_answers(
    run: Run, topics: Mapping[str, Topic], passages: Passages, depth: int | None, regex: bool
) -> Qrels:
    from qpeft_rerank.trec.answers import qrels_from_answers

    answered = [topic for topic in topics.values() if topic.answers]
    passages.prepare(list({hit.docid for topic in answered for hit in run.get(topic.id, [])[:depth]}))
    qrels: Qrels = {}
    for start in range(0, len(answered), _JUDGED_AT_ONCE):
        some = {topic.id: topic for topic in answered[start : start + _JUDGED_AT_ONCE]}
        hits = {topic: run.get(topic, [])[:depth] for topic in some}
        found = passages.fetch(list(dict.fromkeys(hit.docid for listed in hits.values() for hit in listed)))
        # What the collection lacks cannot be judged; whether that is a fault, the reranker decides.
        texts = {docid: passage.text for docid, passage in found.items()}
        qrels.update(qrels_from_answers(some, hits, texts, regex))
    return qrels


def label(name: str) -> str:
    """A short word for an index or topics in a run's file name: the last part of a path, without endings of files."""
    if irdatasets.is_named(name):
        return name.removeprefix(irdatasets.PREFIX).replace("/", "-")
    if os.sep not in name and not os.path.exists(name):
        return name
    word = Path(os.path.abspath(name)).name
    # Other dots stay: topics.nq.dev.jsonl and topics.nq.test.jsonl are not the same.
    while (stem := Path(word).stem) and stem != word and word.lower().endswith(FILE_ENDINGS):
        word = stem
    return word
