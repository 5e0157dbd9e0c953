"""The paper's experiments, a table a command: ``python -m eval.reproduce --table main --scale mini --data DIR``."""

import argparse
import dataclasses
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from eval.chain import Chain
from eval.conditions import Condition, check_scale, conditions_of, narrowed, parse_condition
from eval.design import FOLDER, FirstStage, Matrix, Scale, Table, known, load_matrix
from eval.estimate import Estimator, duration
from eval.steps import Step, ordered
from eval.store import Store
from qpeft_rerank import console
from qpeft_rerank.errors import InputError

_CHANGES = ("topics", "pick", "depth", "queries", "dev_queries", "dev_depth", "epochs", "seed")
_NAMES = ("model", "prompt", "dtype", "max_passage_tokens")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m eval.reproduce",
        description="Run experiments as chains of this project's commands. What is complete is not run again; "
        "stopped at any moment, the same command goes on.",
    )
    what = parser.add_argument_group("what")
    what.add_argument("--list", action="store_true", help="list tables, conditions, scales")
    what.add_argument("--table", action="append", default=[], metavar="T", help="a table; may be repeated")
    what.add_argument("--condition", action="append", default=[], metavar="C", help="such as nq.bm25.qpeft-a")
    what.add_argument("--all", action="store_true", help="every table of the scale")
    what.add_argument("--datasets", nargs="+", metavar="D", help="only these of the tables")
    what.add_argument("--methods", nargs="+", metavar="M", help="only these of the tables")
    what.add_argument(
        "--first-stage",
        action="append",
        default=[],
        metavar="NAME=RUN",
        help="also rerank these TREC runs; {dataset} in the path stands for nq, trivia ...",
    )
    what.add_argument("--dry-run", action="store_true", help="print the state, every command and its time; run nothing")
    where = parser.add_argument_group("where")
    where.add_argument("--scale", default="mini", metavar="S", help="full or mini (default)")
    where.add_argument("--data", type=Path, metavar="DIR", help="corpus.jsonl and topics.SET.SPLIT.jsonl; DPR's files")
    where.add_argument("--work", type=Path, default=Path("runs/eval"), metavar="DIR", help="steps (runs/eval)")
    where.add_argument("--results", type=Path, metavar="DIR", help="tables (WORK/results/SCALE)")
    where.add_argument("--matrix", type=Path, default=FOLDER, metavar="DIR", help="another matrix than eval/matrix")
    size = parser.add_argument_group("instead of the scale's own values")
    size.add_argument("--topics", type=int, metavar="N", help="test topics a data set; 0 takes all")
    size.add_argument("--pick", choices=["seeded", "first"], help="which ones")
    size.add_argument("--depth", type=console.positive, metavar="N", help="candidates a topic")
    size.add_argument("--queries", type=console.positive, metavar="N", help="training questions")
    size.add_argument("--dev-queries", type=console.positive, metavar="N", help="dev questions")
    size.add_argument("--dev-depth", type=console.positive, metavar="N", help="candidates a dev question")
    size.add_argument("--epochs", type=console.positive, metavar="N", help="most epochs of a training")
    size.add_argument("--seed", type=int, help="of samples and trainings")
    size.add_argument("--model", metavar="NAME", help="hub name, folder, GGUF file, or 'embedded'")
    size.add_argument("--prompt", metavar="NAME", help="of adapters: plain, qpeft, upr, or a YAML file")
    size.add_argument("--dtype", choices=["float32", "bfloat16", "float16"])
    size.add_argument("--max-passage-tokens", type=console.positive, metavar="N", help="cut passages to N tokens")
    how = parser.add_argument_group("how rerank and train run (changes no result beyond rounding)")
    how.add_argument("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps")
    how.add_argument("--batch-tokens", type=console.positive, metavar="N", help="tokens a forward pass")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _reproduce(args))


def _reproduce(args: argparse.Namespace) -> int:
    matrix = load_matrix(args.matrix)
    known("--scale", "scale", [args.scale], matrix.scales)
    stages = [_given_stage(text, matrix) for text in args.first_stage]
    matrix.first_stages.update((stage.name, stage) for stage in stages)
    changes = {name: value for name in (*_CHANGES, *_NAMES) if (value := getattr(args, name)) is not None}
    scale = dataclasses.replace(matrix.scales[args.scale], **changes)
    if scale.topics < 0:
        raise InputError(f"--topics {scale.topics}: give a number, 0 for all")
    wanted = _wanted(args, matrix, scale, [stage.name for stage in stages])
    if args.list:
        _list(matrix, wanted or {table.name: (table, conditions_of(matrix, table)) for table in matrix.tables.values()})
        return 0
    if not wanted:
        raise InputError("nothing asked for; give --table, --condition or --all (--list shows which there are)")
    if args.data is not None and not args.data.is_dir():
        raise InputError(f"--data {args.data}: no such folder")
    chain = Chain(scale, args.data, args.matrix / "prompts", _running(args))
    conditions = list(dict.fromkeys(one for _, listed in wanted.values() for one in listed))
    last = {condition: chain.evaluation(condition) for condition in conditions}
    store = Store(args.work)
    steps = ordered(last.values())
    estimator = Estimator(store.records(), scale.operations_per_second)
    _show_state(last, steps, store, estimator)
    if args.dry_run:
        _show_commands(steps, store, estimator)
        return 0
    from eval import publish, runner

    with _alone(args.work):
        runner.run(steps, store)
        for name, (table, listed) in wanted.items():
            folder = (args.results or args.work / "results" / scale.name) / name
            text = publish.publish(
                name, table.title, table.measures, table.reference, listed, chain, store, matrix, folder
            )
            print(text)
            console.say(f"wrote {folder}")
    return 0


def _wanted(
    args: argparse.Namespace, matrix: Matrix, scale: Scale, stages: Sequence[str]
) -> dict[str, tuple[Table, list[Condition]]]:
    """Tables by name with their conditions; single conditions make a table of their own."""
    known("--table", "table", args.table, matrix.tables)
    names = args.table
    if args.all:
        names = [table.name for table in matrix.tables.values() if not table.scales or scale.name in table.scales]
    wanted: dict[str, tuple[Table, list[Condition]]] = {}
    for name in dict.fromkeys(names):
        check_scale(matrix.tables[name], scale)
        table = narrowed(matrix.tables[name], matrix, args.datasets, args.methods, stages)
        wanted[name] = (table, conditions_of(matrix, table))
    if args.condition:
        listed = list(dict.fromkeys(parse_condition(matrix, name) for name in args.condition))
        measures = ["R@10", "H@10", "MRR@10"]
        wanted["conditions"] = (Table("conditions", "Single conditions", [], [], [], measures), listed)
    return wanted


def _given_stage(text: str, matrix: Matrix) -> FirstStage:
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise InputError(f"--first-stage {text}: write NAME=RUN")
    if name in matrix.first_stages or "." in name:
        raise InputError(f"--first-stage {text}: choose another name, without dots")
    return FirstStage(name, name, "run", path)


def _running(args: argparse.Namespace) -> tuple[str, ...]:
    device = ("--device", args.device) if args.device else ()
    return (*device, *(("--batch-tokens", str(args.batch_tokens)) if args.batch_tokens else ()))


def _list(matrix: Matrix, wanted: dict[str, tuple[Table, list[Condition]]]) -> None:
    print("scales")
    for scale in matrix.scales.values():
        print(f"  {scale.name:20} {scale.title}")
    for name, (table, listed) in wanted.items():
        only = f" (--scale {' or '.join(table.scales)})" if table.scales else ""
        print(f"--table {name}: {table.title}{only}")
        for condition in listed:
            print(f"  {condition.name}")


def _show_state(last: dict[Condition, Step], steps: Sequence[Step], store: Store, estimator: Estimator) -> None:
    """What is done and what each condition still needs; a shared step is counted where it comes first."""
    done = {step.key for step in steps if store.is_done(step)}
    counted: set[str] = set()
    width = max(len(condition.name) for condition in last)
    console.say(f"{'condition':{width}}   done  to do  estimate")
    for condition, step in last.items():
        own = ordered([step])
        todo = [one for one in own if one.key not in done | counted]
        counted |= {one.key for one in todo}
        ready = sum(one.key in done for one in own)
        time = estimator.said(todo) if todo else ""
        console.say(f"{condition.name:{width}}  {ready:5}  {len(todo):5}  {time}".rstrip())
    todo = [step for step in steps if step.key not in done]
    rest = f": {estimator.said(todo)} ({estimator.basis()})" if todo else ""
    console.say(f"{len(done)} steps done, {len(todo)} to do{rest}")


def _show_commands(steps: Sequence[Step], store: Store, estimator: Estimator) -> None:
    from eval.runner import shell

    for step in steps:
        state = "done" if store.is_done(step) else f"to do, {duration(estimator.seconds(step))}"
        print(f"# {step.kind} {step.label}: {state}")
        print(shell(step, store.work))


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Hold the work folder; two drivers would do the same steps twice."""
    from filelock import FileLock, Timeout

    try:
        work.mkdir(parents=True, exist_ok=True)
        with FileLock(work / "lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"--work {work}: another process works there; wait for it or name another folder") from None
    except OSError as error:
        raise InputError(f"--work {work}: cannot be used ({error.strerror}); name another folder") from None


if __name__ == "__main__":
    sys.exit(main())
