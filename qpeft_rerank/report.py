"""What a reranking job shows a person: measures side by side, passages before and after."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from qpeft_rerank.collection.passages import Passage, Passages
from qpeft_rerank.errors import InputError
from qpeft_rerank.results import RerankedRun
from qpeft_rerank.trec.measures import Evaluation, evaluate, parse_measure
from qpeft_rerank.trec.qrels import Qrels
from qpeft_rerank.trec.runs import Run
from qpeft_rerank.trec.topics import Topic

DEFAULT_MEASURES = ("Success@1", "Success@5", "Success@10", "RR@10")
_TOP = 3
_WIDTH = 100
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def measures(asked: Sequence[str] | None, judged: bool) -> list[str]:
    """The measures of a job, known ones all: those asked for, else :data:`DEFAULT_MEASURES`.

    :param judged: whether there is anything to measure by; if not, none may be asked for.
    """
    for measure in asked or ():
        parse_measure(measure)
    if asked and not judged:
        raise InputError("--measures: needs judgements; add --qrels")
    return list(asked or DEFAULT_MEASURES)


def measured(
    run: Run, results: Iterable[tuple[str, RerankedRun]], qrels: Qrels, measures: Sequence[str]
) -> tuple[list[str], Evaluation]:
    """The first stage and each named result measured: lines of a table, and what was found of the first stage."""
    first = {topic: {hit.docid: hit.score for hit in hits} for topic, hits in run.items()}
    rankings = [("first stage", evaluate(first, qrels, measures))]
    for name, result in results:
        ranked = {topic: dict(scores) for topic, scores in result.run.items()}
        rankings.append((name, evaluate(ranked, qrels, measures)))
    return list(_table([(name, found.mean) for name, found in rankings], measures)), rankings[0][1]


def _table(rows: Sequence[tuple[str, Mapping[str, float]]], measures: Sequence[str]) -> Iterator[str]:
    """Means of measures, a row a run, four decimals."""
    first = max(len(name) for name, _ in rows)
    widths = [max(len(measure), 6) for measure in measures]
    yield "  ".join([" " * first, *(measure.rjust(width) for measure, width in zip(measures, widths, strict=True))])
    for name, means in rows:
        cells = (f"{means[measure]:.4f}".rjust(width) for measure, width in zip(measures, widths, strict=True))
        yield "  ".join([name.ljust(first), *cells])


def before_and_after(
    run: Run,
    reranked: Mapping[str, Sequence[tuple[str, float]]],
    topics: Mapping[str, Topic],
    passages: Passages,
    qrels: Qrels,
    count: int,
) -> Iterator[str]:
    """The first topics' top three passages in both rankings; ``*`` marks a relevant one."""
    for topic, hits in islice(run.items(), max(count, 0)):
        query = topics[topic]
        yield ""
        answers = _in_one_line(" / ".join(query.answers[:3]))
        yield f"{topic}: {_in_one_line(query.text)}" + (f"  [{answers}]" if answers else "")
        old, new = [hit.docid for hit in hits], [docid for docid, _ in reranked[topic]]
        texts = passages.fetch(list({*old[:_TOP], *new[:_TOP]}))
        for name, ranking in (("before", old), ("after", new)):
            for rank, docid in enumerate(ranking[:_TOP], 1):
                passage = texts.get(docid)
                text = _told(passage) if passage else "(not in the collection)"
                mark = "*" if qrels.get(topic, {}).get(docid, 0) > 0 else " "
                moved = f"({old.index(docid) + 1})" if name == "after" else ""
                short = text if len(text) <= _WIDTH else text[: _WIDTH - 1] + "…"
                yield f"  {name if rank == 1 else '':7}{mark}{rank} {moved:5}{short}"
    if count > 0:
        yield ""


def _told(passage: Passage) -> str:
    """What a passage has of title and text."""
    return ": ".join(filter(None, map(_in_one_line, (passage.title, passage.text)))) or "(empty)"


def _in_one_line(text: str) -> str:
    """White space made single spaces, and so what a terminal would obey: a collection's texts are anybody's."""
    return " ".join(_CONTROLS.sub(" ", text).split())
