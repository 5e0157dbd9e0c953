"""A run joined to its texts: the candidates that are scored."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from qpeft_rerank.collection.passages import MISSING, Passages, Surveyed
from qpeft_rerank.engines.local import Candidate
from qpeft_rerank.errors import InputError, check_count
from qpeft_rerank.given import check_given
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.trec.pairs import listed
from qpeft_rerank.trec.runs import Run, UnjoinedError
from qpeft_rerank.trec.topics import Topic

# Passages fetched at once, so that a long run never holds all its texts.
_FETCH = 4096


def count_pairs(run: Run, depth: int) -> int:
    """How many candidates a run has down to this depth."""
    return sum(min(len(hits), depth) for hits in run.values())


def check_asked(
    scorers: Sequence[Scorer],
    run: Run,
    topics: Mapping[str, Topic],
    passages: Passages,
    depth: int,
    missing: str,
) -> None:
    """Refuse, before anything is scored, what would stop the scoring or mean something else than asked for.

    :raises InputError: for what is no run, topics or collection, a docid twice in a topic, a depth below 1, an unknown
        ``missing``, a topic without text, a query that leaves no room for a passage, and a missing passage as far as
        :func:`check_passages` tells.
    """
    check_count("depth", depth)
    if missing not in MISSING:
        raise InputError(f"--missing {missing}: give {' or '.join(MISSING)}")
    check_given(run, topics, passages)
    check_topics(run, topics)
    for topic in run:
        for scorer in scorers:
            try:
                scorer.check(topics[topic].text)
            except InputError as error:
                raise InputError(f"topic {topic}: {error}") from None
    if missing == "strict":
        check_passages(run, passages, depth)


def check_topics(run: Run, topics: Mapping[str, Topic]) -> None:
    """Refuse a run whose topics have no text."""
    absent = [topic for topic in run if topic not in topics]
    if absent:
        raise UnjoinedError(
            absent[0],
            None,
            f"topic {absent[0]} is in the run but not among the {len(topics)} topics"
            f"{f' (and {len(absent) - 1} more)' if absent[1:] else ''}; give the topics that the run was made for",
        )


def check_passages(run: Run, passages: Passages, depth: int) -> None:
    """Refuse a run with a passage that the collection lacks, where that can be told without fetching any."""
    if not isinstance(passages, Surveyed):
        return
    docid = passages.first_absent(list(dict.fromkeys(hit.docid for hits in run.values() for hit in hits[:depth])))
    if docid is not None:
        topic = next(topic for topic, hits in run.items() if any(hit.docid == docid for hit in hits[:depth]))
        raise _absent(topic, docid, passages)


def _absent(topic: str, docid: str, passages: Passages) -> UnjoinedError:
    return UnjoinedError(
        topic,
        docid,
        f"docid {docid} (topic {topic}) is not in {passages.name}; give the collection that the run "
        "was made from, or --missing skip",
    )


def candidates(
    run: Run,
    topics: Mapping[str, Topic],
    passages: Passages,
    depth: int,
    missing: str = "strict",
    absent: list[tuple[str, str]] | None = None,
    by_passage: bool = False,
) -> Iterator[Candidate]:
    """What :func:`listed` gives, joined to its texts, which are fetched a few thousand at a time.

    A topic or passage that calls itself otherwise than the run does goes by the run's name, by which scores are joined.

    :param absent: receives (topic, docid) that the collection lacks, when ``missing`` is ``skip``.
    """
    passages.prepare(list({hit.docid for hits in run.values() for hit in hits[:depth]}))
    rest = listed(run, depth, by_passage)
    while wanted := list(islice(rest, _FETCH)):
        found = passages.fetch(list(dict.fromkeys(docid for _, docid in wanted)))
        for topic, docid in wanted:
            if docid in found:
                query, passage = topics[topic], found[docid]
                yield Candidate(
                    query if query.id == topic else replace(query, id=topic),
                    passage if passage.docid == docid else replace(passage, docid=docid),
                )
            elif missing == "skip":
                if absent is not None:
                    absent.append((topic, docid))
            else:
                raise _absent(topic, docid, passages)
