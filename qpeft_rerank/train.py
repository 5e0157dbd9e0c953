"""Train an adapter: ``python -m qpeft_rerank.train --adapter qpeft-a --train F.jsonl --dev D.jsonl --output DIR``."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qpeft_rerank import console, neighbours
from qpeft_rerank.errors import InputError
from qpeft_rerank.launched import started
from qpeft_rerank.likelihood.precision import STATES
from qpeft_rerank.unheeded import check_training

if TYPE_CHECKING:
    from qpeft_rerank.engines.processes import Team
    from qpeft_rerank.training.recipe import Recipe


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m qpeft_rerank.train",
        description="Train a Q-PEFT or PEFT adapter on a frozen language model. Stopped and started again with "
        "the same command, it goes on from its last checkpoint. For several GPUs: accelerate launch -m "
        "qpeft_rerank.train ...",
    )
    what = parser.add_argument_group("what is trained")
    what.add_argument(
        "--adapter",
        required=True,
        metavar="NAME",
        help="qpeft-a, qpeft-r, soft-prompt, lora, prefix-tuning, p-tuning, p-tuning-v2 or prompt-tuning",
    )
    what.add_argument("--model", default="embedded", metavar="NAME", help="hub name, folder, GGUF file, or 'embedded'")
    what.add_argument("--prompt", metavar="NAME", help="plain (default; faithful: qpeft), qpeft, upr, or a YAML file")
    what.add_argument("--preset", default="corrected", help="corrected (default) or faithful, as the authors' code")
    what.add_argument("--dataset", metavar="D", help="the authors' k, margin and heads for nq, trivia, webq or squad")
    what.add_argument("--k", type=console.positive, help="qpeft-r: hints (default: by preset and dataset)")
    what.add_argument("--heads", type=console.positive, help="qpeft-a: attention heads (default: 2)")
    what.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another field of the adapter's configuration",
    )
    data = parser.add_argument_group("data")
    data.add_argument(
        "--train",
        required=True,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="mined JSONL, or DPR's biencoder JSON, .gz too",
    )
    data.add_argument(
        "--queries", type=int, default=320, metavar="N", help="questions drawn from each file (320; 0: all)"
    )
    data.add_argument("--dev", metavar="FILE", help="dev questions as mined JSONL (mine some with more --negatives)")
    data.add_argument("--dev-topics", metavar="NAME", help="or: dev topics, with --dev-run and --dev-corpus")
    data.add_argument("--dev-run", metavar="FILE", help="a first-stage run of the dev topics")
    data.add_argument("--dev-corpus", metavar="FILE", help="its passages as JSONL or TSV")
    data.add_argument("--dev-index", metavar="NAME", help="or an index that holds them")
    data.add_argument("--dev-qrels", metavar="NAME", help="judgements (default: the topics' answers)")
    data.add_argument("--dev-depth", type=console.positive, metavar="N", help="candidates a dev topic (20)")
    data.add_argument("--dev-queries", type=console.positive, metavar="N", help="dev questions (64)")
    data.add_argument("--max-passage-tokens", type=console.positive, metavar="N", help="cut passages to N tokens")
    how = parser.add_argument_group("how (defaults: by preset)")
    how.add_argument("--loss", help="pointwise+hinge (default), pointwise, hinge or contrastive")
    how.add_argument("--margin", type=float, help="of the hinge, in nats per token")
    how.add_argument("--temperature", type=float, help="of the contrastive loss, in nats per token")
    how.add_argument("--lr", type=float, help="one learning rate for everything (default: from the model's size)")
    how.add_argument("--epochs", type=int, help="most epochs")
    how.add_argument("--patience", type=int, help="epochs without a better dev metric before it stops")
    how.add_argument("--warmup", type=float, help="share of the steps with a rising rate")
    how.add_argument("--decay", choices=["linear", "constant"], help="of the learning rate")
    how.add_argument("--weight-decay", type=float, help="AdamW's")
    how.add_argument("--clip", type=float, help="greatest norm of the gradient")
    how.add_argument("--queries-per-step", type=console.positive, metavar="N", help="questions drawn together (4)")
    how.add_argument("--negatives", type=int, metavar="N", help="hard negatives a question (1)")
    how.add_argument(
        "--in-batch",
        action=argparse.BooleanOptionalAction,
        help="the other questions' passages are negatives, too",
    )
    how.add_argument(
        "--any-positive",
        action=argparse.BooleanOptionalAction,
        help="draw a question's positive anew in each epoch (mine some with --positives); default: the first",
    )
    how.add_argument("--seed", type=int, default=42, help="of everything random (42)")
    run = parser.add_argument_group("running")
    run.add_argument("--output", required=True, metavar="DIR", help="the adapter's folder")
    run.add_argument("--overwrite", action="store_true", help="replace an existing output")
    run.add_argument(
        "--save-dtype",
        choices=["float32", "float16"],
        default="float32",
        help="of the saved adapter (float32); PEFT's own adapters keep the dtype they have",
    )
    run.add_argument("--dtype", default="auto", choices=["auto", *STATES])
    run.add_argument("--device", default="auto", metavar="D", help="auto, cpu, cuda, cuda:N or mps")
    run.add_argument("--batch-tokens", type=console.positive, metavar="N", help="tokens of a micro-batch (by device)")
    run.add_argument("--gradient-checkpointing", action="store_true", help="less memory, more time")
    run.add_argument(
        "--prefix-cache",
        default="auto",
        metavar="DIR",
        help="keep the frozen model's states of passages there, for this training and others; auto (default): beside "
        "the output while training on a CPU; off",
    )
    run.add_argument(
        "--checkpoint-steps", type=console.positive, default=50, metavar="N", help="steps between checkpoints (50)"
    )
    run.add_argument("--tensorboard", action="store_true", help="also write TensorBoard's event files")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = console.arguments(_parser(), argv)
    neighbours.make_room()
    command = shlex.join(["python", "-m", "qpeft_rerank.train", *(sys.argv[1:] if argv is None else argv)])
    # Set before torch starts CUDA: equal steps then give equal bits there, too.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if started() > 1:
        from qpeft_rerank.engines import processes

        # Those that wait in a collective never say good-bye.
        cpu = processes.on_cpu(args.device)
        return processes.run(lambda team: _train(args, command, team), cpu, stay=1.0)
    return console.run(lambda: _train(args, command), resumes=True)


def _train(args: argparse.Namespace, command: str, team: "Team | None" = None) -> int:
    device = team.training_device(args.device) if team else args.device
    options = _options(args)
    recipe = _recipe(args)
    if args.queries < 0:
        raise InputError(f"--queries {args.queries}: give a number, 0 for all")
    _check_output(args)
    check_training(args, recipe.loss)
    _check_streams(args, team is not None)
    from qpeft_rerank.likelihood.int8 import check_int8
    from qpeft_rerank.likelihood.language_model import pick_device
    from qpeft_rerank.likelihood.sources import find_model
    from qpeft_rerank.prompt.templates import load_template
    from qpeft_rerank.training.data import read_training_file
    from qpeft_rerank.training.dev_source import dev_source
    from qpeft_rerank.training.session import Session, check_files
    from qpeft_rerank.training.students import check_adapter
    from qpeft_rerank.trec.lines import check_there

    # First of all: files of gigabytes are read next, and then a model.
    pick_device(device)
    check_int8(args.dtype)
    check_adapter(args.adapter, options)
    # The authors' preset is for their prompt.
    template = load_template(args.prompt or ("qpeft" if args.preset == "faithful" else "plain"))
    if twice := next((path for at, path in enumerate(args.train) if path in args.train[:at]), None):
        raise InputError(f"--train {twice}: is given twice; once is enough")
    for _, path in console.inputs(args, "train", "dev"):
        check_there(path)  # the last as well, before the first is read
    find_model(args.model, weights=False)
    dev = dev_source(args, speaks=team is None or team.main)
    files = tuple(read_training_file(path, args.queries or None, args.seed, recipe.sampling) for path in args.train)
    bare = check_files(files, recipe)
    Session(
        adapter=args.adapter,
        options=options,
        preset=args.preset,
        files=files,
        dev=dev,
        model=args.model,
        template=template,
        recipe=recipe,
        output=Path(args.output),
        dtype=args.dtype,
        device=device,
        batch_tokens=args.batch_tokens,
        max_passage_tokens=args.max_passage_tokens,
        checkpoint_steps=args.checkpoint_steps,
        gradient_checkpointing=args.gradient_checkpointing,
        tensorboard=args.tensorboard,
        overwrite=args.overwrite,
        prefix_cache=args.prefix_cache,
        half=args.save_dtype == "float16",
        bare=bare,
        command=command,
    ).run()
    return 0


def _check_output(args: argparse.Namespace) -> None:
    """Refuse an output that would take with it what the training reads or keeps: a finished one replaces the whole
    folder, and the work folder beside it goes.
    """
    if args.output == "-":
        raise InputError("--output -: an adapter is a folder and cannot go to stdout; name one")
    names = ("train", "dev", "dev_topics", "dev_run", "dev_corpus", "dev_index", "dev_qrels", "model", "prompt")
    used = [(flag, value) for flag, value in console.inputs(args, *names) if os.path.exists(value)]
    if args.prefix_cache not in ("auto", "off"):
        used.append(("--prefix-cache", args.prefix_cache))
    output = Path(os.path.realpath(args.output))
    for flag, value in used if output.name else ():
        for folder in (output, output.with_name(f"{output.name}.training")):
            if Path(os.path.realpath(value)).is_relative_to(folder):
                raise InputError(f"{flag} {value}: is in {folder}, which this training replaces; keep them apart")
    from qpeft_rerank.training.workfolder import checked_output

    # The work folder looks again: while gigabytes are read, another training may have ended there.
    checked_output(args.output, args.overwrite)


def _check_streams(args: argparse.Namespace, together: bool) -> None:
    """Refuse stdin for two inputs, and for several processes whatever gives to one what another then lacks."""
    names = ("train", "dev", "dev_topics", "dev_run", "dev_qrels")
    console.check_stdin(args, *names)
    for flag, value in console.inputs(args, *names) if together else ():
        if value == "-" or (os.path.exists(value) and not os.path.isfile(value) and not os.path.isdir(value)):
            raise InputError(f"{flag} {value}: is a stream, which several processes cannot all read; give a file")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The adapter's configuration: the dataset's, then what was given by name."""
    from qpeft_rerank.training.presets import adapter_options

    options, named = adapter_options(args.adapter, args.dataset), console.settings(args.option)
    for name, owner in (("k", "qpeft-r"), ("heads", "qpeft-a")):
        value = getattr(args, name)
        if value is not None and args.adapter != owner:
            raise InputError(f"--{name} belongs to {owner}, not to {args.adapter}")
        if value is not None and name in named:
            raise InputError(f"--{name} {value} and --option {name}={named[name]}: give one of them")
        options |= {name: value} if value is not None else {}
    return options | named


def _recipe(args: argparse.Namespace) -> "Recipe":
    import dataclasses

    from qpeft_rerank.training.presets import recipe_values
    from qpeft_rerank.training.recipe import Recipe
    from qpeft_rerank.training.sampler import Sampling

    def given(*names: str) -> dict[str, Any]:
        return {name: value for name in names if (value := getattr(args, name)) is not None}

    values = recipe_values(args.preset, args.adapter, args.dataset)
    sampling = values.pop("sampling", Sampling())
    values["sampling"] = dataclasses.replace(
        sampling, **given("queries_per_step", "negatives", "in_batch", "any_positive")
    )
    names = (one.name for one in dataclasses.fields(Recipe) if one.name != "sampling")
    return Recipe(**values | given(*names))


if __name__ == "__main__":
    sys.exit(main())
