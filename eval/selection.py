"""What the commands over experiments have in common: which conditions are meant, at which scale, and where."""

import argparse
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.chain import Chain
from eval.conditions import Condition, check_scale, conditions_of, narrowed, parse_condition
from eval.design import FOLDER, RECIPE, FirstStage, Matrix, Scale, Table, checked, load_matrix
from eval.records import known
from eval.store import Store
from qpeft_rerank import console
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.precision import STATES

_CHANGES = ("topics", "pick", "depth", "queries", "dev_queries", "dev_depth", "epochs", "seed")
_NAMES = ("model", "prompt", "dtype", "max_passage_tokens")
#: What a selection of single conditions measures, beside what their data sets are shown by.
MEASURES = ("R@10", "H@10", "MRR@10")


def add_what(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Flags that name conditions."""
    what = parser.add_argument_group("what")
    what.add_argument("--table", action="append", default=[], metavar="T", help="a table; may be repeated")
    what.add_argument("--condition", action="append", default=[], metavar="C", help="such as nq.bm25.qpeft-a")
    what.add_argument("--all", action="store_true", help="every table of the scale")
    what.add_argument("--datasets", nargs="+", action="extend", metavar="D", help="only these of the tables")
    what.add_argument("--methods", nargs="+", action="extend", metavar="M", help="only these of the tables")
    what.add_argument(
        "--values", nargs="+", action="extend", metavar="V", help="instead of the tables' own values of what they vary"
    )
    what.add_argument(
        "--first-stage",
        action="append",
        default=[],
        metavar="NAME=RUN",
        help="also rerank these TREC runs; {dataset} in the path stands for nq, trivia ...",
    )
    return what


def add_where(parser: argparse.ArgumentParser) -> "argparse._ArgumentGroup":
    """Flags that name folders."""
    where = parser.add_argument_group("where")
    where.add_argument("--scale", default="mini", metavar="S", help="full or mini (default)")
    where.add_argument("--data", type=Path, metavar="DIR", help="corpus.jsonl and topics.SET.SPLIT.jsonl; DPR's files")
    where.add_argument("--work", type=Path, default=Path("runs/eval"), metavar="DIR", help="steps (runs/eval)")
    where.add_argument("--matrix", type=Path, default=FOLDER, metavar="DIR", help="another matrix than eval/matrix")
    return where


def add_results(where: "argparse._ArgumentGroup", name: str) -> None:
    """The flag that names a table's folder."""
    where.add_argument("--results", type=Path, metavar="DIR", help=f"the table's folder (WORK/results/SCALE/{name})")


def add_size(parser: argparse.ArgumentParser) -> None:
    """Flags that change a scale's values, which are part of every step's key."""
    size = parser.add_argument_group("instead of the scale's own values")
    size.add_argument("--topics", type=int, metavar="N", help="test topics a data set; 0 takes all")
    size.add_argument("--pick", choices=["seeded", "first"], help="which ones")
    size.add_argument("--depth", type=console.positive, metavar="N", help="candidates a topic")
    size.add_argument("--queries", type=console.positive, metavar="N", help="training questions")
    size.add_argument("--dev-queries", type=console.positive, metavar="N", help="dev questions")
    size.add_argument("--dev-depth", type=console.positive, metavar="N", help="candidates a dev question")
    size.add_argument("--epochs", type=console.positive, metavar="N", help="most epochs of a training")
    size.add_argument("--seed", type=int, help="of samples and trainings")
    size.add_argument(
        "--set",
        nargs="+",
        action="extend",
        default=[],
        metavar="NAME=VALUE",
        dest="settings",
        help="how all methods are trained that do not say otherwise, nor have the preset faithful: loss, negatives ...",
    )
    size.add_argument("--model", metavar="NAME", help="hub name, folder, GGUF file, or 'embedded'")
    size.add_argument("--prompt", metavar="NAME", help="of adapters: plain, qpeft, upr, or a YAML file")
    size.add_argument("--dtype", choices=list(STATES))
    size.add_argument("--max-passage-tokens", type=console.positive, metavar="N", help="cut passages to N tokens")


def add_how(parser: argparse.ArgumentParser) -> None:
    """Flags of running, which change no result beyond rounding."""
    how = parser.add_argument_group("how rerank and train run (changes no result beyond rounding)")
    how.add_argument("--device", metavar="D", help="auto, cpu, cuda, cuda:N or mps")
    how.add_argument(
        "--together",
        action="store_true",
        help="read a passage once for all rerankers of its data set that can share it; their own times stay unknown",
    )
    how.add_argument(
        "--jobs",
        type=console.positive,
        metavar="N",
        help="commands at a time, processors shared among them (scale mini without a GPU: as many as fit; else 1)",
    )
    how.add_argument("--batch-tokens", type=console.positive, metavar="N", help="tokens a forward pass")
    how.add_argument(
        "--prefix-cache",
        metavar="DIR",
        help="one folder for all trainings' states of passages; their own times stay unknown (default: as train's)",
    )


@dataclass(frozen=True)
class Selection:
    """What was asked for.

    :param wanted: tables by name with their conditions; single conditions make a table of their own.
    """

    matrix: Matrix
    scale: Scale
    wanted: dict[str, tuple[Table, list[Condition]]]

    @property
    def conditions(self) -> list[Condition]:
        """Every condition once."""
        return list(dict.fromkeys(one for _, listed in self.wanted.values() for one in listed))


def select(args: argparse.Namespace) -> Selection:
    """Resolve the flags of :func:`add_what`, :func:`add_where` and :func:`add_size`.

    :raises InputError: for an unknown name, and a matrix that is not sound.
    """
    matrix = load_matrix(args.matrix)
    known("--scale", "scale", [args.scale], matrix.scales)
    stages = []
    for text in args.first_stage:  # one by one: two of one name are refused
        stage = _given_stage(text, matrix)
        matrix.first_stages[stage.name] = stage
        stages.append(stage.name)
    changes = {name: value for name in (*_CHANGES, *_NAMES) if (value := getattr(args, name)) is not None}
    scale, settings = matrix.scales[args.scale], _settings(args.settings)
    if "epochs" in settings:
        if "epochs" in changes:
            raise InputError("--epochs, --set epochs: two ways to say the same; give one")
        changes["epochs"] = settings.pop("epochs")
        if not changes["epochs"]:
            raise InputError("--set epochs=0: a training has one at least; for none take an untrained method")
    if changes.get("model", scale.model) != scale.model:
        changes["memory"] = None  # which is that of the scale's own model
    scale = dataclasses.replace(scale, recipe={**scale.recipe, **settings}, **changes)
    if scale.topics < 0:
        raise InputError(f"--topics {scale.topics}: give a number, 0 for all")
    return Selection(matrix, scale, _wanted(args, matrix, scale, stages))


def chain_of(args: argparse.Namespace, selection: Selection) -> Chain:
    """The chain that makes the steps of a selection's conditions.

    :raises InputError: if nothing was asked for, or the data folder is not there.
    """
    if not selection.wanted:
        raise InputError("nothing asked for; give --table, --condition or --all (--list shows which there are)")
    if args.data is not None and not args.data.is_dir():
        raise InputError(f"--data {args.data}: no such folder")
    return Chain(
        selection.scale, args.data, args.matrix / "prompts", _running(args), selection.matrix.datasets, _training(args)
    )


def finished(selection: Selection, chain: Chain, store: Store) -> dict[Condition, bool]:
    """Which conditions are complete.

    A data set whose topics are not in the data folder is not; only if there is no other, that is a fault.
    """
    found, faults = {}, []
    for condition in selection.conditions:
        try:
            found[condition] = store.is_done(chain.evaluation(condition))
        except InputError as error:
            found[condition] = False
            faults.append(error)
    if len(faults) == len(found):
        raise faults[0]
    return found


def _wanted(
    args: argparse.Namespace, matrix: Matrix, scale: Scale, stages: Sequence[str]
) -> dict[str, tuple[Table, list[Condition]]]:
    known("--table", "table", args.table, matrix.tables)
    names = args.table
    if args.all:
        known("--datasets", "dataset", args.datasets or (), matrix.datasets)
        known("--methods", "method", args.methods or (), matrix.methods)
        names = [table.name for table in matrix.tables.values() if _has_some(table, args, scale)]
        if not names:
            raise InputError(
                f"--scale {scale.name}: no table has these --datasets with these --methods; --list shows all"
            )
    elif not names and (flags := [f"--{name}" for name in ("datasets", "methods", "values") if getattr(args, name)]):
        raise InputError(f"{', '.join(flags)}: narrows a --table or --all, of which there is none; leave it out")
    wanted: dict[str, tuple[Table, list[Condition]]] = {}
    for name in dict.fromkeys(names):
        table = matrix.tables[name]
        check_scale(table, scale)
        datasets, methods = args.datasets or [], args.methods or []
        if args.all:  # of each table what it has of them
            datasets = [one for one in datasets if one in table.datasets]
            methods = [one for one in methods if one in table.methods]
        table = narrowed(table, matrix, datasets, methods, stages, _typed(args.values or ()))
        if args.values and table.vary is None:
            raise InputError(f"--values: table {name} varies nothing; leave them out, or ask for an ablation alone")
        wanted[name] = (table, conditions_of(matrix, table))
    if args.condition:
        listed = list(dict.fromkeys(parse_condition(matrix, name) for name in args.condition))
        measures = dict.fromkeys([*MEASURES, *(one.dataset.measure(MEASURES[0]) for one in listed)])
        wanted["conditions"] = (Table("conditions", "Single conditions", [], [], [], list(measures)), listed)
    return wanted


def _has_some(table: Table, args: argparse.Namespace, scale: Scale) -> bool:
    """Tell whether a table is for the scale, and something of it was asked for."""
    asked = ((args.datasets, table.datasets), (args.methods, table.methods))
    narrowly = all(not some or set(some) & set(names) for some, names in asked)
    return narrowly and (not table.scales or scale.name in table.scales)


def _settings(given: Sequence[str]) -> dict[str, Any]:
    """``--set``: names of :data:`eval.design.RECIPE` with values as in YAML."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise InputError(f"--set {text}: write NAME=VALUE")
        name = name.replace("-", "_")
        known("--set", "setting", [name], RECIPE)
        [typed] = _typed([value])
        found[name] = checked("--set", name, typed)
    return found


def _typed(given: Sequence[str]) -> list[Any]:
    """Words as the values that they are in YAML."""
    import yaml

    found = []
    for text in given:
        try:
            value = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError):  # a date that no calendar has
            value = None
        if not isinstance(value, str | int | float):
            raise InputError(f"{text}: give a number or a word")
        found.append(value)
    return found


def _given_stage(text: str, matrix: Matrix) -> FirstStage:
    name, equals, path = text.partition("=")
    if not name or not equals or not path:
        raise InputError(f"--first-stage {text}: write NAME=RUN")
    if name in matrix.first_stages or not re.fullmatch(r"[\w-]+", name):
        raise InputError(f"--first-stage {text}: choose another name, of letters, digits, _ and -")
    return FirstStage(name, name, "run", path)


def _training(args: argparse.Namespace) -> tuple[str, ...]:
    folder = getattr(args, "prefix_cache", None)
    return ("--prefix-cache", folder) if folder else ()


def jobs(args: argparse.Namespace, scale: Scale) -> int:
    """How many commands run at a time: as asked, or as fit where the model is small and there is no GPU."""
    if args.jobs:
        return int(args.jobs)
    if scale.memory is None:
        return 1
    from eval.workers import as_many
    from qpeft_rerank.likelihood.language_model import pick_device

    return as_many(scale.memory) if pick_device(args.device or "auto").type == "cpu" else 1


def _running(args: argparse.Namespace) -> tuple[str, ...]:
    device = ("--device", args.device) if getattr(args, "device", None) else ()
    tokens = getattr(args, "batch_tokens", None)
    return (*device, *(("--batch-tokens", str(tokens)) if tokens else ()))
