"""DPR's and UPR's retriever JSON to a TREC run and topics, and back.

``python -m eval.dpr_json to-trec list.json --run run.trec --topics topics.jsonl [--qrels qrels.txt]``
``python -m eval.dpr_json to-json --run run.trec --topics topics.jsonl --output list.json``

The JSON is a list of ``{"question", "answers", "ctxs": [{"id", "score", "has_answer", ...}]}`` in the
order of its question file. Entries and topics are joined by position: two questions with one text are
two questions, and a text that was cleaned in one file is still the same question.
"""

import argparse
import json
import sys
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from eval.sample import topic_line
from qpeft_rerank import console
from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.files import parse_json
from qpeft_rerank.trec.lines import is_text
from qpeft_rerank.trec.output import check_output, write_lines
from qpeft_rerank.trec.qrels import Qrels, read_qrels, write_qrels
from qpeft_rerank.trec.runs import read_run, write_run
from qpeft_rerank.trec.topics import Topic, read_topics


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m eval.dpr_json", description="Convert DPR's and UPR's retriever JSON to TREC files and back."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    to_trec = commands.add_parser("to-trec", help="JSON to a run and topics")
    to_trec.add_argument("json", metavar="FILE", help="list of question, answers, ctxs")
    to_trec.add_argument("--run", required=True, metavar="FILE", help="TREC run to write")
    to_trec.add_argument("--topics", metavar="FILE", help="topics to write (JSONL; ids are positions from 0)")
    to_trec.add_argument("--like", metavar="FILE", help="topics in the JSON's order, whose ids the run takes")
    to_trec.add_argument("--qrels", metavar="FILE", help="also write has_answer as qrels")
    to_trec.add_argument("--depth", type=console.positive, metavar="N", help="first N passages a question (all)")
    to_trec.add_argument("--tag", default="dpr", help="of the run (dpr)")
    to_json = commands.add_parser("to-json", help="a run and topics to JSON")
    to_json.add_argument("--run", required=True, metavar="FILE", help="TREC run")
    to_json.add_argument("--topics", required=True, metavar="FILE", help="its topics; their order is the JSON's")
    to_json.add_argument("--qrels", metavar="FILE", help="fills has_answer")
    to_json.add_argument("--output", required=True, metavar="FILE", help="JSON to write")
    for command in (to_trec, to_json):
        command.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _to_trec(args) if args.command == "to-trec" else _to_json(args))


def _to_trec(args: argparse.Namespace) -> int:
    places: dict[Path, str] = {}
    for flag in ("run", "topics", "qrels"):
        if getattr(args, flag):
            other = places.setdefault(Path(getattr(args, flag)).resolve(), flag)
            if other != flag:
                raise InputError(f"--{other}, --{flag}: one file, {getattr(args, flag)}; give each a file of its own")
            check_output(
                getattr(args, flag), args.overwrite, f"--{flag}", [("the JSON", args.json), ("--like", args.like)]
            )
    entries = _entries(args.json)
    topics = [_topic(entry, place, f"{args.json}: entry {place}") for place, entry in enumerate(entries)]
    if args.like:
        like = list(read_topics(args.like).values())
        if len(like) != len(topics):
            raise InputError(
                f"{args.like}: {len(like)} topics where {args.json} has {len(topics)} questions; "
                "they are joined by position, give the question file that the list was made from"
            )
        topics = [Topic(given.id, topic.text, topic.answers) for given, topic in zip(like, topics, strict=True)]
    run: dict[str, list[tuple[str, float]]] = {}
    qrels: Qrels = {}
    for place, (topic, entry) in enumerate(zip(topics, entries, strict=True)):
        for docid, score, relevant in _contexts(entry, f"{args.json}: entry {place}")[: args.depth]:
            run.setdefault(topic.id, []).append((docid, score))
            if relevant is not None:
                qrels.setdefault(topic.id, {})[docid] = relevant
    if not run:
        raise InputError(f"{args.json}: none of its questions has a passage in ctxs")
    if args.qrels and not qrels:
        raise InputError(f"{args.json}: no has_answer in it, which --qrels asks for")
    write_run(args.run, run, args.tag)
    if args.topics:
        write_lines(args.topics, map(topic_line, topics))
    if args.qrels:
        write_qrels(args.qrels, qrels)
    console.say(f"{len(topics):,} questions, {sum(map(len, run.values())):,} passages")
    return 0


def _to_json(args: argparse.Namespace) -> int:
    check_output(args.output, args.overwrite, inputs=console.inputs(args, "run", "topics", "qrels"))
    topics, run = read_topics(args.topics), read_run(args.run)
    if run.keys().isdisjoint(topics):
        raise InputError(f"{args.run}: none of its topics is among those of {args.topics}; give the run's topics")
    qrels = read_qrels(args.qrels) if args.qrels else {}
    if qrels and qrels.keys().isdisjoint(run):
        raise InputError(
            f"{args.qrels}: none of its topics is in the run (run: {next(iter(run))}, qrels: {next(iter(qrels))}); "
            "give the qrels of the run's topics"
        )
    entries = []
    for topic in topics.values():
        judged = qrels.get(topic.id, {})
        contexts = []
        for hit in run.get(topic.id, ()):
            context: dict[str, Any] = {"id": hit.docid, "score": hit.score}
            if args.qrels:
                context["has_answer"] = judged.get(hit.docid, 0) > 0
            contexts.append(context)
        entries.append({"question": topic.text, "answers": list(topic.answers), "ctxs": contexts})
    write_lines(args.output, [json.dumps(entries, indent=1, ensure_ascii=False) + "\n"])
    console.say(f"{len(entries):,} questions")
    return 0


def _entries(path: str) -> list[dict[str, Any]]:
    try:
        entries = parse_json(Path(path).read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({first_line(error)}); write the list anew") from None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise InputError(f"{path}: not a list of questions with answers and ctxs")
    return entries


def _topic(entry: dict[str, Any], place: int, where: str) -> Topic:
    text, answers = entry.get("question"), entry.get("answers", [])
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: has no question")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{where}: 'answers' is not a list of strings")
    if not is_text("".join((text, *answers))):
        raise InputError(f"{where}: question or answers have half a surrogate pair; mend the escape")
    return Topic(str(place), text.strip(), tuple(answers))


def _contexts(entry: dict[str, Any], where: str) -> list[tuple[str, float, int | None]]:
    """(docid, score, grade) in the list's order, which counts: equal or rising scores would change it."""
    listed = entry.get("ctxs")
    if not isinstance(listed, list):
        raise InputError(f"{where}: 'ctxs' is not a list of passages")
    found = []
    for context in listed:
        try:
            given = context["id"] if "id" in context else context["docid"]
            docid = "" if given is None else str(given)
            score = float(context["score"])
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
            raise InputError(f"{where}: a passage of ctxs has no id or no score that is a number") from None
        # DPR's own files name passages wiki:123 in some releases.
        docid = docid.removeprefix("wiki:")
        if not docid:
            raise InputError(f"{where}: a passage of ctxs has no id")
        if not is_text(docid):
            raise InputError(f"{where}: the id {docid!r} in ctxs has half a surrogate pair; mend the escape")
        answered = context.get("has_answer")
        found.append((docid, score, None if answered is None else int(bool(answered))))
    # trec_eval sees float32.
    scores = array("f", [score for _, score, _ in found])
    if any(later >= earlier for earlier, later in pairwise(scores)):
        return [(docid, float(-rank), grade) for rank, (docid, _, grade) in enumerate(found, 1)]
    return found


if __name__ == "__main__":
    sys.exit(main())
