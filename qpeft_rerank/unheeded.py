"""Options that would do nothing beside others: who gives one means something by it, and is told."""

import argparse

from qpeft_rerank.errors import InputError


def check_reranking(args: argparse.Namespace) -> None:
    """Refuse what ``rerank`` would not look at."""
    if args.run is not None and args.hits is not None:
        raise InputError(
            "--hits: is of the search, and --run takes its place; leave it out, or say how many by --depth"
        )
    _check_language(args)
    if None not in (args.index, args.run, args.corpus, args.topics):
        raise InputError("--index: nothing is read of it beside --run, --corpus and --topics; leave it out")
    if args.explain_topic is not None and not args.explain:
        raise InputError("--explain-topic: is the topic of a page; add --explain F.html")


def check_mining(args: argparse.Namespace) -> None:
    """Refuse what ``mine`` would not look at."""
    if args.seed is not None and args.limit is None:
        raise InputError("--seed: decides which questions are taken up to a --limit; add one, or leave it out")
    _check_language(args)


def _check_language(args: argparse.Namespace) -> None:
    if args.run is not None and args.language is not None:
        raise InputError("--language: is of the search, and --run takes its place; leave it out")


def check_training(args: argparse.Namespace, loss: str) -> None:
    """Refuse what ``train`` would not look at.

    :param loss: that it minimises.
    """
    if args.dataset is not None and args.adapter not in ("qpeft-r", "qpeft-a"):
        raise InputError(
            f"--dataset: says what the authors chose for Q-PEFT, and nothing of {args.adapter}; leave it out"
        )
    for name, uses in (("margin", ("hinge", "pointwise+hinge")), ("temperature", ("contrastive",))):
        if getattr(args, name) is not None and loss not in uses:
            raise InputError(f"--{name}: --loss {loss} has none; leave it out, or take --loss {uses[-1]}")
    for name in ("negatives", "in_batch"):
        if getattr(args, name) and loss == "pointwise":
            raise InputError(f"--{name.replace('_', '-')}: --loss pointwise looks at no negatives; leave it out")
    if not args.dev and not args.dev_run:
        for name in ("patience", "dev_queries"):
            if getattr(args, name) is not None:
                raise InputError(f"--{name.replace('_', '-')}: is of dev questions; give some, or leave it out")
    for name in ("dev_corpus", "dev_index", "dev_qrels", "dev_depth"):
        if getattr(args, name) is not None and not args.dev_run:
            raise InputError(f"--{name.replace('_', '-')}: belongs to --dev-run, which is not there; add it")
    if args.dev_corpus is not None and args.dev_index is not None:
        raise InputError("--dev-corpus and --dev-index are two places of the same passages; give one")
