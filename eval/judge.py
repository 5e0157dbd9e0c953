"""DPR's ``has_answer`` as TREC qrels: ``python -m eval.judge --run F --topics T --corpus C --output qrels.txt``.

With ``--qrels``, the judgements of a collection that has its own, cut to the topics and checked against the run.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from qpeft_rerank import console
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.output import check_output
from qpeft_rerank.trec.qrels import write_qrels
from qpeft_rerank.trec.runs import Run, read_run
from qpeft_rerank.trec.topics import Topic


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m eval.judge",
        description="Judge every passage of a run: relevant if its text holds one of the topic's answers.",
    )
    parser.add_argument("--run", required=True, metavar="FILE", help="TREC run; all of it is judged")
    parser.add_argument("--topics", required=True, metavar="NAME", help="topics with answers")
    parser.add_argument("--index", metavar="NAME", help="index that stores the passages")
    parser.add_argument("--corpus", metavar="FILE", help="or the passages as JSONL or TSV")
    parser.add_argument("--regex", action="store_true", help="answers are regular expressions, as CuratedTREC's")
    parser.add_argument("--qrels", metavar="NAME", help="or judgements that exist: a file, or a name that Pyserini has")
    parser.add_argument("--output", required=True, metavar="FILE", help="qrels to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _judge(args))


def _judge(args: argparse.Namespace) -> int:
    from qpeft_rerank import sources

    read = console.inputs(args, "run", "topics", "index", "corpus", "qrels")
    check_output(args.output, args.overwrite, inputs=read)
    topics, run = sources.find_topics(args.topics), read_run(args.run)
    if run.keys().isdisjoint(topics):
        raise InputError(
            f"{args.run}: none of its topics (first: {next(iter(run))}) is among those of {args.topics} "
            f"(first: {next(iter(topics))}); give the topics of the run"
        )
    if args.qrels:
        return _judged(args, topics, run)
    passages = sources.find_passages(args.index, args.corpus)
    qrels = sources.find_qrels(sources.ANSWERS_REGEX if args.regex else sources.ANSWERS, run, topics, passages)
    absent = [(t, hit.docid) for t in qrels for hit in run.get(t, ()) if hit.docid not in qrels[t]]
    if absent:
        topic, docid = absent[0]
        raise InputError(f"docid {docid} (topic {topic}) is not in {passages.name}; give the run's own collection")
    write_qrels(args.output, qrels)
    found = sum(any(grades.values()) for grades in qrels.values())
    console.say(f"{found:,} of {len(topics):,} topics have a passage with an answer")
    return 0


def _judged(args: argparse.Namespace, topics: Mapping[str, Topic], run: Run) -> int:
    """Take the judgements of ``--qrels`` for the topics, all of them: nDCG's ideal ranking needs them."""
    from qpeft_rerank import sources

    if args.index or args.corpus:
        raise InputError("--qrels needs no passages; leave --index and --corpus out")
    if args.qrels in (sources.ANSWERS, sources.ANSWERS_REGEX):
        raise InputError(f"--qrels {args.qrels}: is what --index or --corpus alone does; leave --qrels out")
    unread: Any = None
    found = sources.find_qrels(args.qrels, {}, topics, unread)
    qrels = {topic: found[topic] for topic in topics if topic in found}
    if not qrels:
        raise InputError(
            f"--qrels {args.qrels}: none of its topics (first: {next(iter(found), 'none')}) is among those of "
            f"{args.topics} (first: {next(iter(topics))}); give the judgements of these topics"
        )
    if not any(hit.docid in grades for topic, grades in qrels.items() for hit in run.get(topic, ())):
        topic = next(iter(qrels))
        raise InputError(
            f"--qrels {args.qrels}: judges no passage of {args.run} (topic {topic}: {next(iter(qrels[topic]))}); "
            "give the judgements of the run's collection"
        )
    write_qrels(args.output, qrels)
    console.say(f"{len(qrels):,} of {len(topics):,} topics are judged")
    return 0


if __name__ == "__main__":
    sys.exit(main())
