"""Dev questions as the training command names them: all that is quick is looked at before anything slow is read."""

import argparse
from collections.abc import Callable
from functools import partial

from qpeft_rerank.collection.lucene import check_index
from qpeft_rerank.collection.passages import Passages
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError
from qpeft_rerank.sources import ANSWERS, ANSWERS_REGEX, find_passages, find_topics, named_qrels
from qpeft_rerank.training.data import read_training_file
from qpeft_rerank.training.dev import DevSet, counted, dev_from_examples, dev_from_run
from qpeft_rerank.trec.runs import read_run

_DEPTH, _QUERIES = 20, 64


def dev_source(args: argparse.Namespace, speaks: bool) -> Callable[[], DevSet] | None:
    """What makes the dev set, once everything cheaper has been checked; None where none is asked for.

    Topics, run and judgements are read at once; passages, or triples, when it is called.

    :param speaks: whether this process tells what was read.
    :raises InputError: for what is wrong with any of them.
    """
    by_run = (args.dev_topics, args.dev_run)
    if args.dev and any(by_run):
        raise InputError("--dev and --dev-run are two ways to give dev questions; give one")
    if any(by_run) != all(by_run):
        raise InputError("--dev-topics and --dev-run go together; give both")
    if args.dev:
        return partial(_from_triples, args, speaks)
    if not args.dev_run:
        return None
    if not (args.dev_corpus or args.dev_index):
        raise InputError("--dev-run names passages but does not hold them; add --dev-corpus FILE or --dev-index NAME")
    return _from_run(args)


def _from_triples(args: argparse.Namespace, speaks: bool) -> DevSet:
    file = read_training_file(args.dev, args.dev_queries or _QUERIES, args.seed)
    if speaks:
        say(f"dev: {file.summary}")
    return dev_from_examples(file.examples, args.dev)


def _from_run(args: argparse.Namespace) -> Callable[[], DevSet]:
    judged = None if args.dev_qrels in (None, ANSWERS, ANSWERS_REGEX) else named_qrels(args.dev_qrels)
    topics, run = find_topics(args.dev_topics), read_run(args.dev_run)
    if judged is not None and judged.keys().isdisjoint(run):
        raise InputError(f"--dev-qrels {args.dev_qrels}: none of the dev run's topics is judged there; give theirs")
    depth, queries = args.dev_depth or _DEPTH, args.dev_queries or _QUERIES
    # No more of them is held while files of gigabytes are read.
    known = counted(run, topics, queries, judged)
    run, topics = {topic: run[topic][:depth] for topic in known}, {topic: topics[topic] for topic in known}
    judged = {topic: judged[topic] for topic in known} if judged is not None else None
    if args.dev_index:
        check_index(args.dev_index)

    def made() -> DevSet:
        passages: Passages = find_passages(args.dev_index, args.dev_corpus)
        return dev_from_run(run, topics, passages, depth, None, judged, args.dev_qrels == ANSWERS_REGEX)

    return made
