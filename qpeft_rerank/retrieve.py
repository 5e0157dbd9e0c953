"""BM25 first stage: ``python -m qpeft_rerank.retrieve --index I --topics T --output run.trec``."""

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence

from qpeft_rerank import console
from qpeft_rerank.collection.index import check_search
from qpeft_rerank.sources import LANGUAGE_OPTION, find_topics, say_unfound, topics_of_index
from qpeft_rerank.trec.output import check_output, write_lines
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m qpeft_rerank.retrieve",
        description="Search a Lucene index with BM25 and write a TREC run, line by line what "
        "python -m pyserini.search.lucene writes.",
    )
    parser.add_argument(
        "--index", required=True, help="folder of a Lucene index, name of a prebuilt index, or 'embedded'"
    )
    parser.add_argument("--topics", help="topics file, Pyserini name, or 'embedded' (default: the index's own)")
    parser.add_argument("--output", required=True, metavar="FILE", help="run to write; - is stdout")
    parser.add_argument(
        "--hits", type=console.positive, default=1000, metavar="N", help="hits per topic (default: 1000)"
    )
    parser.add_argument("--k1", type=float, help="BM25 k1 (default: as Pyserini for this index)")
    parser.add_argument("--b", type=float, help="BM25 b (default: as Pyserini for this index)")
    parser.add_argument("--language", **LANGUAGE_OPTION)
    parser.add_argument("--rm3", action="store_true", help="expand queries with RM3")
    parser.add_argument("--threads", type=console.positive, default=1, metavar="N", help="search threads (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = console.arguments(_parser(), argv)
    return console.run(lambda: _retrieve(args))


def _retrieve(args: argparse.Namespace) -> int:
    check_search(args.hits, args.k1, args.b)
    check_output(args.output, args.overwrite, inputs=console.inputs(args, "topics", "index"))
    from qpeft_rerank.collection.lucene import check_index, open_index

    check_index(args.index)
    name = args.topics or topics_of_index(args.index)
    # Topics before the index: they are quick to read, an index may be gigabytes to download.
    topics = find_topics(name)
    index = open_index(args.index, args.language)
    console.say(f"searching {index.name} ({len(index):,} passages) with {len(topics):,} topics")
    results = index.search(topics, hits=args.hits, k1=args.k1, b=args.b, rm3=args.rm3, threads=args.threads, order=name)
    counts: dict[str, int] = {}
    write_lines(args.output, _run_lines(results, counts), args.overwrite)
    _report(topics, counts, args.output)
    return 0


def _run_lines(results: Iterable[tuple[str, Sequence[Hit]]], counts: dict[str, int]) -> Iterator[str]:
    """Lines of a run as Pyserini writes them: its order, its ranks, six decimals, its tag.

    :param counts: receives the number of each topic's hits.
    """
    for topic, hits in results:
        counts[topic] = len(hits)
        for hit in hits:
            yield f"{topic} Q0 {hit.docid} {hit.rank} {hit.score:.6f} Anserini\n"


def _report(topics: Mapping[str, Topic], counts: Mapping[str, int], output: str) -> None:
    place = "stdout" if output == "-" else output
    console.say(f"wrote {sum(counts.values()):,} lines to {place}")
    say_unfound(topics, {topic for topic, count in counts.items() if count})


if __name__ == "__main__":
    sys.exit(main())
