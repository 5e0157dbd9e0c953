"""What lower precisions change of rankings: ``python -m eval.benchmarks.precision --data DIR``."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from eval.benchmarks.command import about, begin, options, publish
from qpeft_rerank import console
from qpeft_rerank.errors import InputError

_MEASURE = "nDCG@10"
_FIRST = 10
_HEAD = (
    "run",
    "precision",
    "pairs",
    "mean absolute error, nats",
    "largest",
    "tau",
    "top 10 as in float32",
    f"{_MEASURE} float32",
    "change",
    "scored again if certified",
    "bound",
    "certified top 10 as in float32",
)


def _parser() -> argparse.ArgumentParser:
    parser = options(
        "precision",
        "Score whole runs in float32 and in lower precisions; tell errors, rankings and what certifying "
        "the first ten would cost. Stopped and started again, it goes on where it was.",
        "dl19/ and miniwiki/",
    )
    parser.add_argument(
        "--runs", nargs="*", default=[], metavar="SET=FILE", help="first stages of miniwiki's test questions, by set"
    )
    parser.add_argument("--dtypes", nargs="+", default=["mixed", "bfloat16"], metavar="D", help="mixed, bfloat16, int8")
    parser.add_argument("--depth", type=console.positive, default=100, metavar="N", help="passages a topic (100)")
    parser.add_argument("--limit", type=console.positive, metavar="N", help="the first N topics of each run only")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _precision(args), resumes=True)


def _precision(args: argparse.Namespace) -> int:
    from eval.benchmarks.table import markdown

    begin(args)
    given = list(_runs(args))  # all of them, before an hour goes into the first
    rows = [row for name, one in given for row in _compared(args, name, one)]
    publish(args.output, (about(args.threads), "", *markdown(_HEAD, rows)))
    return 0


def _runs(args: argparse.Namespace) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Each run's name, with run, topics, passages and judgments."""
    from qpeft_rerank import sources
    from qpeft_rerank.trec.runs import read_run

    data = Path(args.data)
    listed = [("dl19", data / "dl19" / "run.bm25.txt", data / "dl19" / "topics.tsv", str(data / "dl19" / "qrels.txt"))]
    for word in args.runs:
        name, _, path = word.partition("=")
        if not path:
            raise InputError(f"--runs {word}: give SET=FILE, such as trivia=trivia.trec")
        listed.append((name, Path(path), data / "miniwiki" / f"topics.{name}.test.jsonl", "answers"))
    for name, path, topics_file, judged in listed:
        topics = sources.find_topics(str(topics_file))
        run = dict(
            islice(((topic, hits) for topic, hits in read_run(str(path)).items() if topic in topics), args.limit)
        )
        if not run:
            raise InputError(f"{path}: none of its topics is among those of {topics_file}; give a run of these")
        folder = topics_file.parent
        passages = sources.find_passages(None, str(folder / "corpus.jsonl"))
        yield name, (run, topics, passages, sources.find_qrels(judged, run, topics, passages, args.depth))


def _compared(args: argparse.Namespace, name: str, given: tuple[Any, ...]) -> Iterator[tuple[str, ...]]:
    from qpeft_rerank.certify import certify

    run, topics, passages, qrels = given
    exact = _scores(args, name, "float32", run, topics, passages)
    for dtype in args.dtypes:
        scores = _scores(args, name, dtype, run, topics, passages)
        errors = [abs(scores[pair] - exact[pair]) for pair in exact]
        again: dict[tuple[str, str], float] = {}

        def rescore(wanted: set[tuple[str, str]], again: dict[tuple[str, str], float] = again) -> dict[Any, float]:
            again.update((pair, exact[pair]) for pair in wanted)
            return {pair: exact[pair] for pair in wanted}

        certificate = certify(scores, _FIRST, rescore)
        before, after = _measured(exact, qrels), _measured(scores, qrels)
        yield (
            name,
            dtype,
            f"{len(exact):,}",
            f"{sum(errors) / len(errors):.3f}",
            f"{max(errors):.3f}",
            f"{_tau(exact, scores):.4f}",
            _same_first(exact, scores),
            f"{before:.4f}",
            f"{after - before:+.4f}",
            f"{certificate.again / certificate.pairs:.1%}",
            f"{certificate.bound:.3f}",
            _same_first(exact, scores | again),
        )


def _scores(args: argparse.Namespace, name: str, dtype: str, run: Any, topics: Any, passages: Any) -> dict[Any, float]:
    """Scores in nats by (topic, docid), from the journal where they are there."""
    from tqdm import tqdm

    from qpeft_rerank import Reranker
    from qpeft_rerank.candidates import count_pairs
    from qpeft_rerank.likelihood.journal import Journal

    reranker = Reranker.from_pretrained(args.model, None, dtype=dtype, device="cpu")
    total = count_pairs(run, args.depth)
    with (
        Journal(Path(args.output).with_suffix(f".{name}.{dtype}.journal")) as journal,
        tqdm(total=total, unit="pair", desc=f"{name} {dtype}", file=sys.stderr) as bar,
    ):
        found = reranker.rerank_run(run, topics, passages, depth=args.depth, journal=journal, progress=bar.update)
    return {pair[:2]: pair.score.total for pair in found.pairs}


def _by_topic(scores: dict[Any, float]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for (topic, docid), score in scores.items():
        found.setdefault(topic, {})[docid] = score
    return found


def _measured(scores: dict[Any, float], qrels: Any) -> float:
    from qpeft_rerank.trec.measures import evaluate

    listed = _by_topic(scores)
    return evaluate(listed, {topic: judged for topic, judged in qrels.items() if topic in listed}, [_MEASURE]).mean[
        _MEASURE
    ]


def _same_first(exact: dict[Any, float], scores: dict[Any, float]) -> str:
    from qpeft_rerank.trec.runs import trec_order

    other = _by_topic(scores)
    ranked = _by_topic(exact)
    same = sum(
        [docid for docid, _ in trec_order(found.items())[:_FIRST]]
        == [docid for docid, _ in trec_order(other[topic].items())[:_FIRST]]
        for topic, found in ranked.items()
    )
    return f"{same} of {len(ranked)}"


def _tau(exact: dict[Any, float], scores: dict[Any, float]) -> float:
    from eval.benchmarks.agreement import rank_agreement

    pairs = list(exact)
    ones = [1] * len(pairs)
    return rank_agreement([topic for topic, _ in pairs], [scores[p] for p in pairs], [exact[p] for p in pairs], ones)


if __name__ == "__main__":
    sys.exit(main())
