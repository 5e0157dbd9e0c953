"""The main job: ``python -m qpeft_rerank.rerank --index msmarco-passage``."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from qpeft_rerank import console, neighbours
from qpeft_rerank.collection.passages import MISSING
from qpeft_rerank.launched import started
from qpeft_rerank.likelihood.precision import STATES
from qpeft_rerank.sources import LANGUAGE_OPTION

if TYPE_CHECKING:
    from qpeft_rerank.engines.processes import Team


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m qpeft_rerank.rerank",
        description="Rerank a BM25 first stage, or any TREC run, by the likelihood that a causal language "
        "model gives the query after the passage. Stopped and started again, it goes on where it was. "
        "For several GPUs: accelerate launch -m qpeft_rerank.rerank ...",
    )
    source = parser.add_argument_group("what is reranked")
    source.add_argument(
        "--index",
        metavar="NAME",
        help="Pyserini index name, index folder, or 'embedded' (the default, alone)",
    )
    source.add_argument("--corpus", metavar="FILE", help="passages as JSONL or TSV, .gz too: no index, no Java")
    source.add_argument(
        "--topics", metavar="NAME", help="Pyserini name, file, or ir_datasets:ID (default: the index's own)"
    )
    source.add_argument("--limit", type=console.positive, metavar="N", help="rerank the first N topics only")
    source.add_argument("--run", metavar="FILE", help="TREC run to rerank, .gz too, - for stdin (default: BM25)")
    source.add_argument("--language", **LANGUAGE_OPTION)
    source.add_argument(
        "--hits", type=console.positive, metavar="N", help="BM25 hits a topic (1000, or --depth if that is more)"
    )
    source.add_argument("--depth", type=console.positive, default=100, metavar="N", help="how many to rerank (100)")
    source.add_argument(
        "--missing",
        choices=MISSING,
        default="strict",
        help="a docid not in the collection: stop, or leave it below the reranked ones (strict)",
    )
    model = parser.add_argument_group("how it is scored")
    model.add_argument(
        "--model",
        default="embedded",
        metavar="NAME",
        help="hub name, folder, GGUF file, or 'embedded' (default)",
    )
    model.add_argument(
        "--adapter",
        default="auto",
        metavar="NAME",
        help="Q-PEFT or PEFT adapter: folder, hub name, one that ships, or 'none'; 'auto' (default): "
        "smollm2-135m-a for the embedded model, unless --prompt is given, else none",
    )
    model.add_argument(
        "--compare",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME",
        help="measure other adapters too, 'none' for no adapter: passages are read once for all of them",
    )
    model.add_argument("--prompt", metavar="NAME", help="plain (default), qpeft, upr, or a YAML file")
    model.add_argument(
        "--alpha",
        type=float,
        default=1.0,
        metavar="A",
        help="A * likelihood + (1-A) * first stage, min-max (1)",
    )
    model.add_argument("--max-passage-tokens", type=int, metavar="N", help="cut passages to N tokens (the context)")
    model.add_argument("--dtype", choices=["auto", *STATES], default="auto")
    model.add_argument(
        "--certify",
        type=console.positive,
        metavar="K",
        help="score in --dtype (mixed), then in float32 what could change a topic's first K: they are float32's",
    )
    model.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:N or mps (auto)")
    model.add_argument("--batch-tokens", type=console.positive, metavar="N", help="tokens a forward pass (by device)")
    model.add_argument(
        "--share-passages",
        choices=["auto", "on", "off"],
        default="auto",
        help="read a passage once for all its topics: where it saves 5%% of the tokens, any, or never (auto)",
    )
    model.add_argument(
        "--compile", action="store_true", help="compile the model's layers by torch.compile: for long runs on a GPU"
    )
    model.add_argument("--threads", type=console.positive, metavar="N", help="threads of torch and of the search")
    output = parser.add_argument_group("what comes out")
    output.add_argument(
        "--output", metavar="FILE", help="run to write, - for stdout (runs/<run or index>.<topics>.<method>.trec)"
    )
    output.add_argument(
        "--scores", metavar="FILE", help="also write each candidate's log-probability as JSONL, --adapter's alone"
    )
    output.add_argument("--overwrite", action="store_true", help="replace an existing output")
    output.add_argument(
        "--qrels",
        metavar="NAME",
        help="measure both by a file, a Pyserini name, ir_datasets:ID, 'answers' or 'answers-regex' (CuratedTREC)",
    )
    output.add_argument("--measures", nargs="+", action="extend", metavar="M", help="of --qrels, e.g. nDCG@10 R@100")
    output.add_argument(
        "--show", type=console.from_zero, default=0, metavar="N", help="show N topics' top passages, before and after"
    )
    output.add_argument("--explain", metavar="F.html", help="also write a page that shows why one topic ranks so")
    output.add_argument("--explain-topic", metavar="ID", help="the topic of that page (the run's first)")
    output.add_argument("--dry-run", action="store_true", help="print the plan and its cost; score nothing")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = console.arguments(_parser(), argv)
    neighbours.make_room()
    if started() > 1:
        from qpeft_rerank.engines import processes

        return processes.run(lambda team: _together(args, team))

    def command() -> int:
        from qpeft_rerank.job import Job

        return Job(args).run()

    return console.run(command, resumes=True)


def _together(args: argparse.Namespace, team: "Team") -> int:
    from qpeft_rerank.job import Job

    return Job(args, team).run()


if __name__ == "__main__":
    sys.exit(main())
