"""A fixed sample of topics: ``python -m eval.sample --topics dpr-nq-test --count 300 --output topics.jsonl``."""

import argparse
import json
import random
import sys
from collections.abc import Mapping, Sequence
from itertools import islice

from qpeft_rerank import console
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.output import check_output, write_lines
from qpeft_rerank.trec.topics import Topic


def sample(topics: Mapping[str, Topic], count: int, pick: str, seed: int) -> list[Topic]:
    """``count`` topics (0: all), in the order of the file.

    ``first`` takes the file's first ones. ``seeded`` sorts by question text and draws, as the authors'
    ``openqa_dataset.py`` does, so every first stage of a set gets the same ones.
    """
    if not count or count >= len(topics):
        return list(topics.values())
    if pick == "first":
        return list(islice(topics.values(), count))
    by_text = sorted(topics.values(), key=lambda topic: (topic.text, topic.id))
    drawn = {topic.id for topic in random.Random(seed).sample(by_text, count)}
    return [topic for topic in topics.values() if topic.id in drawn]


def topic_line(topic: Topic) -> str:
    """A topic as a line of JSONL."""
    return json.dumps({"id": topic.id, "question": topic.text, "answers": list(topic.answers)}) + "\n"


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(prog="python -m eval.sample", description="Draw topics and write them as JSONL.")
    parser.add_argument("--topics", required=True, metavar="NAME", help="topics file, or Pyserini's name of some")
    parser.add_argument("--count", type=int, default=300, metavar="N", help="how many; 0 takes all (300)")
    parser.add_argument("--pick", choices=["seeded", "first"], default="seeded", help="which ones (seeded)")
    parser.add_argument("--seed", type=int, default=42, help="of the draw (42)")
    parser.add_argument("--output", required=True, metavar="FILE", help="JSONL to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _sample(args))


def _sample(args: argparse.Namespace) -> int:
    from qpeft_rerank.sources import find_topics

    check_output(args.output, args.overwrite, inputs=console.inputs(args, "topics"))
    if args.count < 0:
        raise InputError(f"--count {args.count}: give a number, 0 for all")
    topics = find_topics(args.topics)
    drawn = sample(topics, args.count, args.pick, args.seed)
    write_lines(args.output, map(topic_line, drawn))
    console.say(f"{len(drawn):,} of {len(topics):,} topics")
    return 0


if __name__ == "__main__":
    sys.exit(main())
