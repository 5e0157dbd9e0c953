"""Conditions: one dataset, first stage and method, perhaps with one setting changed, and their names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from eval.design import RECIPE, SETTINGS, Dataset, FirstStage, Matrix, Method, Scale, Table, short, variation
from eval.records import known
from qpeft_rerank.errors import InputError

# Settings of one adapter.
_OWN = {"k": "qpeft-r", "heads": "qpeft-a"}


@dataclass(frozen=True, eq=False)
class Condition:
    """One cell of a table's rows: ``nq.bm25.qpeft-r`` or, varied, ``nq.bm25.qpeft-r.k-5``."""

    dataset: Dataset
    first_stage: FirstStage
    method: Method
    setting: str | None = None
    value: Any = None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Condition) and (self.name, self.value) == (other.name, other.value)

    def __hash__(self) -> int:
        return hash(self.name)

    @property
    def variant(self) -> str:
        """``k-5``, or nothing. Of a model's name the last part."""
        return "" if self.setting is None else f"{self.setting}-{short(self.value)}"

    @property
    def row(self) -> str:
        """Method and variant: what a table's row is about, on every dataset."""
        return ".".join(filter(None, (self.method.name, self.variant)))

    @property
    def name(self) -> str:
        """The condition's full name."""
        return f"{self.dataset.name}.{self.first_stage.name}.{self.row}"

    @property
    def title(self) -> str:
        """The row's heading."""
        return self.method.title + (f", {self.setting} {self.value}" if self.setting else "")

    def get(self, name: str, default: Any = None) -> Any:
        """A setting's value: varied, else the method's, else ``default``."""
        if name == self.setting:
            return self.value
        return self.method.settings.get(name, default)

    def prompt(self, scale: Scale) -> str:
        """The name of the prompt that it is read with: with hints before the passage, one of the matrix's own."""
        name = str(self.get("prompt", scale.prompt))
        return f"{name}-hints-first" if self.get("hints", "after") == "before" else name


def conditions_of(matrix: Matrix, table: Table) -> list[Condition]:
    """A table's conditions, dataset by dataset. A method that the varied setting does not concern comes once."""
    found = []
    for dataset in table.datasets:
        for stage in table.first_stages:
            for name in table.methods:
                method = matrix.methods[name]
                base = Condition(matrix.datasets[dataset], matrix.first_stages[stage], method)
                if table.vary is None or not concerns(method, table.vary["setting"]):
                    found.append(base)
                    continue
                for value in table.vary["values"]:
                    found.append(Condition(base.dataset, base.first_stage, method, table.vary["setting"], value))
    return found


def by_list(conditions: Iterable[Condition]) -> dict[tuple[str, str], dict[str, Condition]]:
    """By data set and first stage, then by row."""
    found: dict[tuple[str, str], dict[str, Condition]] = {}
    for condition in conditions:
        found.setdefault((condition.dataset.name, condition.first_stage.name), {})[condition.row] = condition
    return found


def concerns(method: Method, setting: str) -> bool:
    """Tell whether a setting changes a method: the model alone has a prompt, but nothing to train."""
    if setting in _OWN and method.adapter != _OWN[setting]:
        return False
    if method.kind == "prompt":
        return setting in ("model", "prompt")
    if method.kind == "untrained":
        return setting not in (*RECIPE, "queries")
    return method.kind not in ("first-stage", "ready")


def parse_condition(matrix: Matrix, name: str) -> Condition:
    """The condition of a name.

    :raises InputError: if a part of it is unknown, or a varied value is in no table.
    """
    parts = name.split(".", 3)
    if len(parts) < 3:
        raise InputError(f"--condition {name}: write dataset.first-stage.method, e.g. nq.bm25.qpeft-a")
    where = f"--condition {name}"
    known(where, "dataset", parts[:1], matrix.datasets)
    known(where, "first stage", parts[1:2], matrix.first_stages)
    known(where, "method", parts[2:3], matrix.methods)
    base = Condition(matrix.datasets[parts[0]], matrix.first_stages[parts[1]], matrix.methods[parts[2]])
    if len(parts) == 3:
        return base
    varied = [
        Condition(base.dataset, base.first_stage, base.method, setting, value)
        for setting in SETTINGS
        for table in matrix.tables.values()
        if table.vary and table.vary["setting"] == setting and concerns(base.method, setting)
        for value in table.vary["values"]
    ]
    found = {condition.variant: condition for condition in varied}
    known(where, "variant", parts[3:], found)
    return found[parts[3]]


def narrowed(
    table: Table,
    matrix: Matrix,
    datasets: Sequence[str] | None,
    methods: Sequence[str] | None,
    stages: Sequence[str],
    values: Sequence[Any] = (),
) -> Table:
    """A table with some datasets and methods only, with first stages added, and with other values of its setting."""
    import dataclasses

    for flag, given, names in (("--datasets", datasets, table.datasets), ("--methods", methods, table.methods)):
        known(f"{flag}, table {table.name}", flag.strip("-")[:-1], given or (), names)
    kept = [name for name in table.methods if not methods or name in methods]
    return dataclasses.replace(
        table,
        datasets=[name for name in table.datasets if not datasets or name in datasets],
        methods=kept,
        first_stages=[*table.first_stages, *stages],
        reference=table.reference if table.reference in kept else None,
        vary=variation("--values", table.vary["setting"], values) if table.vary and values else table.vary,
    )


def check_scale(table: Table, scale: Scale) -> None:
    """Refuse a table that is not for this scale."""
    if table.scales and scale.name not in table.scales:
        raise InputError(f"--table {table.name}: is for --scale {' or '.join(table.scales)} only")
