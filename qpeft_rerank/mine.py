"""Training triples from an index and questions: ``python -m qpeft_rerank.mine --index I --topics T --output F``."""

import argparse
import hashlib
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qpeft_rerank import console
from qpeft_rerank.errors import InputError
from qpeft_rerank.sources import FILE_ENDINGS, LANGUAGE_OPTION
from qpeft_rerank.trec.output import check_output
from qpeft_rerank.unheeded import check_mining

if TYPE_CHECKING:
    from qpeft_rerank.training.mining import Miner

_SEED = 42


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m qpeft_rerank.mine",
        description="Make training triples: for each question a relevant passage and hard negatives, from BM25 "
        "or from a run. A mining that was stopped goes on when the same command is given again.",
    )
    first = parser.add_mutually_exclusive_group(required=True)
    first.add_argument("--index", help="search this index with BM25: a folder, a prebuilt name, or 'embedded'")
    first.add_argument("--run", metavar="FILE", help="take the candidates from a TREC run, with --corpus")
    parser.add_argument("--corpus", metavar="FILE", help="passages as JSONL or TSV (default: those of the index)")
    parser.add_argument("--topics", required=True, help="questions: a file, a Pyserini name, or 'embedded'")
    parser.add_argument(
        "--split", help="of the topics, such as dev: dpr-nq is dpr-nq-dev then, topics.jsonl topics.dev.jsonl"
    )
    parser.add_argument("--output", required=True, metavar="FILE", help="JSONL to write")
    parser.add_argument("--qrels", help="judgements (file or name) that tell the positives (default: the answers)")
    parser.add_argument("--language", **LANGUAGE_OPTION)
    parser.add_argument("--hits", type=console.positive, default=100, help="candidates a question (default: 100)")
    parser.add_argument("--negatives", type=console.positive, default=8, help="most negatives a question (default: 8)")
    parser.add_argument("--positives", type=console.positive, default=1, help="most positives a question (default: 1)")
    parser.add_argument(
        "--limit", type=console.positive, help="stop after so many triples, of questions in random order"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="decides that order (default: 42)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing or unfinished output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = console.arguments(_parser(), argv)
    return console.run(lambda: _mine(args), resumes=True)


def _mine(args: argparse.Namespace) -> int:
    output = Path(args.output)
    args.topics = _of_split(args.topics, args.split)
    if args.output == "-":
        raise InputError("--output -: name a file; it is made in steps and cannot go to stdout")
    read = console.inputs(args, "index", "run", "corpus", "topics", "qrels")
    check_output(args.output, args.overwrite, inputs=read)
    console.check_stdin(args, "run", "topics", "qrels")
    check_mining(args)
    args.seed = _SEED if args.seed is None else args.seed
    if args.run and not args.corpus:
        raise InputError("--run names passages but does not hold them; add --corpus FILE")
    if args.qrels == "answers-regex":
        raise InputError("--qrels answers-regex: answers are matched by their words here; give judgements in a file")
    from tqdm import tqdm

    from qpeft_rerank.training.minefile import MineFile
    from qpeft_rerank.trec.runs import located

    # Topics and judgements first: they are quick to read and often wrong.
    miner, settings = _miner(args)
    with located(args.run), MineFile(output, settings, args.overwrite) as file:
        # Another mining may have held the work file, and finished, since this one began.
        check_output(args.output, args.overwrite, inputs=read)
        tally = file.tally()
        if tally.topics:
            console.say(f"going on after {tally.topics:,} topics")
        whole, done = (args.limit, tally.triples) if args.limit else (len(miner), tally.topics)
        with tqdm(total=whole, unit="q", initial=done, dynamic_ncols=True) as bar:
            for mined in file.extend(miner.mine(tally.topics, tally.triples)):
                mined.count(tally)
                bar.update(mined.example is not None if args.limit else 1)
        file.finish()
    for line in tally.lines():
        console.say(line)
    if miner.unranked:
        console.say(f"{miner.unranked:,} topics are not in the run and were left out")
    if args.limit and tally.triples < args.limit:
        console.say(f"fewer than --limit {args.limit}: the topics are exhausted")
    console.say(f"wrote {output}")
    return 0


def _of_split(topics: str, split: str | None) -> str:
    """The topics' name with a split in its place, as files, ir_datasets and Pyserini have it."""
    if split is None:
        return topics
    if topics.startswith("ir_datasets:"):
        return f"{topics}/{split}"
    path = Path(topics)
    zipped = ".gz" if path.suffix == ".gz" else ""
    inner = Path(path.name.removesuffix(zipped))
    # Pyserini's names may hold dots, too.
    if inner.suffix in FILE_ENDINGS or path.parent.name or path.exists():
        return str(path.with_name(f"{inner.stem}.{split}{inner.suffix}{zipped}"))
    return f"{topics}-{split}"


def _miner(args: argparse.Namespace) -> tuple["Miner", dict[str, Any]]:
    from qpeft_rerank.collection.lucene import open_index
    from qpeft_rerank.sources import find_passages, find_topics, named_qrels
    from qpeft_rerank.training.mining import Miner, Mining
    from qpeft_rerank.trec.runs import read_run

    topics = find_topics(args.topics)
    mining = Mining(args.hits, args.negatives, args.positives, args.limit, args.seed)
    qrels = named_qrels(args.qrels) if args.qrels not in (None, "answers") else None
    if qrels is not None and qrels.keys().isdisjoint(topics):
        raise InputError(
            f"--qrels {args.qrels}: judges none of the {len(topics)} topics; give the qrels that belong to them"
        )
    passages = find_passages(args.index, args.corpus, args.language)
    first: Any = passages
    if args.run:
        first = read_run(args.run)
    elif args.corpus:
        first = open_index(args.index, args.language)
    settings: dict[str, Any] = asdict(mining)
    # In order: a mining that was stopped goes on after so many topics.
    settings["topics"] = _digest((topic.id, topic.text, topic.answers) for topic in topics.values())
    # By what they hold: a pipe has neither a size nor a time that tells it again.
    settings["run"] = (
        _digest((topic, [hit.docid for hit in hits]) for topic, hits in first.items()) if args.run else None
    )
    settings["qrels"] = _digest(qrels.items()) if qrels is not None else None
    for name in ("index", "corpus"):
        settings[name] = _stamp(getattr(args, name))
    if args.language:  # without one, as in minings of earlier versions, which may go on
        settings["language"] = args.language
    return Miner(mining, topics, passages, first, qrels), settings


def _digest(items: Iterable[object]) -> str:
    digest = hashlib.sha256()
    for item in items:
        digest.update(repr(item).encode("utf-8", "replace"))
    return digest.hexdigest()


def _stamp(name: str | None) -> str | None:
    """What tells an input again: a file by size and time, an index folder by its commit, else the name."""
    if name is None or not os.path.exists(name):
        return name
    path = Path(name).resolve()
    files = sorted(path.glob("segments_*")) if path.is_dir() else [path]
    return " ".join(f"{file.stat().st_size} {file.stat().st_mtime_ns}" for file in files)


if __name__ == "__main__":
    sys.exit(main())
