"""The paper's experiments, a table a command: ``python -m eval.reproduce --table main --scale mini --data DIR``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from eval import selection
from eval.commands import shell
from eval.conditions import Condition, conditions_of
from eval.design import Matrix, Table
from eval.estimate import Estimator, measured_speed
from eval.steps import Step, ordered
from eval.store import Store
from qpeft_rerank import console
from qpeft_rerank.console import duration


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m eval.reproduce",
        description="Run experiments as chains of this project's commands. What is complete is not run again; "
        "stopped at any moment, the same command goes on.",
    )
    what = selection.add_what(parser)
    what.add_argument("--list", action="store_true", help="list tables, conditions, scales")
    what.add_argument("--dry-run", action="store_true", help="print the state, every command and its time; run nothing")
    where = selection.add_where(parser)
    where.add_argument("--results", type=Path, metavar="DIR", help="tables (WORK/results/SCALE)")
    selection.add_size(parser)
    selection.add_how(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _reproduce(args), resumes=True)


def _reproduce(args: argparse.Namespace) -> int:
    selected = selection.select(args)
    matrix, scale, wanted = selected.matrix, selected.scale, selected.wanted
    if args.list:
        _list(matrix, wanted or {table.name: (table, conditions_of(matrix, table)) for table in matrix.tables.values()})
        return 0
    chain = selection.chain_of(args, selected)
    last = {condition: chain.evaluation(condition) for condition in selected.conditions}
    store = Store(args.work)
    steps = ordered(last.values())
    speed = scale.operations_per_second or (lambda: measured_speed(args.device, scale.dtype))
    estimator = Estimator(store.records(), speed, store.work)
    _show_state(last, steps, store, estimator)
    if args.dry_run:
        _show_commands(steps, store, estimator)
        return 0
    from eval import publish, runner

    with store.alone():
        runner.run(steps, store, args.together, selection.jobs(args, scale))
        for name, (table, listed) in wanted.items():
            folder = (args.results or args.work / "results" / scale.name) / name
            text = publish.publish(
                name, table.title, table.measures, table.reference, listed, chain, store, matrix, folder
            )
            print(text)
            console.say(f"wrote {folder}")
    return 0


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
    for step in steps:
        state = "done" if store.is_done(step) else f"to do, {duration(estimator.seconds(step))}"
        print(f"# {step.kind} {step.label}: {state}")
        print(shell(step, store.work))


if __name__ == "__main__":
    sys.exit(main())
