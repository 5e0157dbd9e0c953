"""The matrix of experiments: datasets, first stages, methods, tables and scales, read from YAML and checked."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.records import known, read_records
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.precision import STATES

FOLDER = Path(__file__).with_name("matrix")
CUTS = tuple(range(5, 51, 5))
#: What is computed for every condition: those of the authors, and what others report.
MEASURES = (*(f"R@{k}" for k in CUTS), *(f"H@{k}" for k in CUTS), "MRR@10", "MAP", "nDCG@10")
KINDS = ("first-stage", "prompt", "untrained", "trained", "ready")
#: Settings of a method, that a table may vary, too.
SETTINGS = ("model", "prompt", "preset", "hints", "k", "heads", "filters", "margin", "loss", "lr", "queries", "epochs")
#: Those that say how a method is trained (flags of ``train``; ``positives`` is ``mine``'s).
RECIPE = ("margin", "loss", "lr", "epochs", "temperature", "negatives", "positives", "any_positive", "in_batch")
RECIPE += ("queries_per_step", "patience", "warmup", "decay", "weight_decay", "clip")
SETTINGS += tuple(name for name in RECIPE if name not in SETTINGS)
_WHOLE = ("k", "heads", "queries", "epochs", "negatives", "positives", "queries_per_step", "patience")
_NUMBERS = ("margin", "lr", "temperature", "warmup", "weight_decay", "clip")
_SWITCHES = ("any_positive", "in_batch")
#: Settings that are one of a few words. A `hints` that is neither would be read as `after`.
CHOICES = {
    "hints": ("after", "before"),
    "preset": ("corrected", "faithful", "textual"),
    "loss": ("pointwise+hinge", "pointwise", "hinge", "contrastive"),
    "decay": ("linear", "constant"),
    "pick": ("seeded", "first"),
    "dtype": ("auto", *STATES),
}
# The least that a number of a scale may be; what it may leave out may be nothing, too.
_LEAST = {"depth": 1, "topics": 0, "queries": 0, "dev_queries": 1, "dev_depth": 1, "epochs": 1, "max_passage_tokens": 1}
_LEAST |= {"parameters": 0, "pair_tokens": 0}
_ABOVE_NONE = ("memory", "operations_per_second")
# A condition's name is made of them with dots between, and folders are called by them.
_NAME = re.compile(r"[\w-]+")


@dataclass(frozen=True)
class Scale:
    """How large an experiment is; see ``matrix/scales.yaml``. ``topics`` 0 takes all.

    :param recipe: those of :data:`RECIPE` that every trained method has here, unless it says otherwise.
    :param memory: bytes that one command takes at most, where several may run at a time; None: one at a time.
    """

    name: str
    title: str
    model: str
    prompt: str
    depth: int
    topics: int
    queries: int
    dev_queries: int
    seed: int
    pick: str = "seeded"
    index: str | None = None
    corpus: str | None = None
    dev_depth: int = 20
    epochs: int | None = None
    recipe: Mapping[str, Any] = field(default_factory=dict)
    max_passage_tokens: int | None = None
    dtype: str | None = None
    published: bool = False
    parameters: float = 0.0
    pair_tokens: int = 0
    operations_per_second: float | None = None
    memory: float | None = None

    def described(self) -> dict[str, Any]:
        """What decides the figures, for captions and stored expectations."""
        names = ("model", "prompt", "depth", "topics", "pick", "queries", "dev_queries", "dev_depth", "seed")
        optional = {name: getattr(self, name) for name in ("epochs", "max_passage_tokens", "dtype")}
        given = {name: getattr(self, name) for name in names} | {k: v for k, v in optional.items() if v is not None}
        return given | dict(self.recipe)


@dataclass(frozen=True)
class Dataset:
    """A question set, judged by its answers, or by ``qrels`` where it has graded judgements.

    :param index: its own, where it is not the scale's; ``qrels``: a name that Pyserini knows (scale full).
    :param given: files of a set with its own collection, relative to the data folder (scale mini): ``topics``,
        ``corpus``, ``qrels`` and ``run``, its BM25.
    :param regex: answers are regular expressions.
    :param trained_on: the data set whose adapters it takes, as it has nothing to train on.
    """

    name: str
    title: str
    folder: str
    topics: str = ""
    train: str = ""
    dev: str = ""
    dev_topics: str = ""
    cells: str | None = None
    test_size: int = 0
    index: str | None = None
    qrels: str = ""
    given: Mapping[str, str] = field(default_factory=dict)
    trained_on: str | None = None
    regex: bool = False

    def measure(self, asked: str) -> str:
        """What figures show of it: ``asked``, or nDCG@10 where passages are relevant by degrees."""
        return "nDCG@10" if self.qrels else asked


@dataclass(frozen=True)
class FirstStage:
    """Where candidates come from: a search, or runs at ``path`` with ``{dataset}`` in it."""

    name: str
    title: str
    kind: str = "search"
    path: str = ""
    k1: float | None = None
    b: float | None = None


@dataclass(frozen=True)
class Method:
    """A way to rank candidates; ``settings`` holds those of :data:`SETTINGS` that are fixed for it."""

    name: str
    title: str
    kind: str
    adapter: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Conditions that are shown together."""

    name: str
    title: str
    datasets: list[str]
    first_stages: list[str]
    methods: list[str]
    measures: list[str]
    reference: str | None = None
    vary: Mapping[str, Any] | None = None
    scales: list[str] | None = None


@dataclass(frozen=True)
class Matrix:
    """All of it, by name."""

    folder: Path
    scales: dict[str, Scale]
    datasets: dict[str, Dataset]
    first_stages: dict[str, FirstStage]
    methods: dict[str, Method]
    tables: dict[str, Table]


def load_matrix(folder: Path = FOLDER) -> Matrix:
    """Read the matrix of a folder.

    :raises InputError: for a file that is no YAML, an unknown key, a value of another type or out of range, a name with
        other characters than letters, digits, _ and -, and a table that names an unknown dataset, first stage, method,
        measure or setting, or none.
    """
    matrix = Matrix(
        folder,
        read_records(Scale, folder / "scales.yaml"),
        read_records(Dataset, folder / "datasets.yaml"),
        read_records(FirstStage, folder / "first-stages.yaml"),
        read_records(Method, folder / "methods.yaml", SETTINGS),
        read_records(Table, folder / "tables.yaml"),
    )
    for file in ("scales", "datasets", "first_stages", "methods", "tables"):
        for name in getattr(matrix, file):
            if not _NAME.fullmatch(name):
                path = folder / f"{file.replace('_', '-')}.yaml"
                raise InputError(f"{path}: {name}: names are made of letters, digits, _ and -; rename it")
    for dataset in matrix.datasets.values():
        where = f"{folder / 'datasets.yaml'}: {dataset.name}"
        known(where, "dataset", [dataset.trained_on] if dataset.trained_on else [], matrix.datasets)
        known(f"{where}, given", "file", dataset.given, ("topics", "corpus", "qrels", "run"))
        if dataset.given and not {"topics", "corpus", "qrels", "run"} <= set(dataset.given):
            raise InputError(f"{where}: given has topics, corpus, qrels and run, or is left out")
    scales = matrix.scales
    for scale in list(scales.values()):
        _check_scale(f"{folder / 'scales.yaml'}: {scale.name}", scale)
        where = f"{folder / 'scales.yaml'}: {scale.name}, recipe"
        # Its number of epochs is a value of the scale, which --epochs changes.
        known(where, "setting", scale.recipe, [name for name in RECIPE if name != "epochs"])
        scales[scale.name] = dataclasses.replace(scale, recipe=checked_all(where, scale.recipe))
    for method in list(matrix.methods.values()):
        where = f"{folder / 'methods.yaml'}: {method.name}"
        known(where, "kind", [method.kind], KINDS)
        if method.kind in ("untrained", "trained", "ready") and not method.adapter:
            raise InputError(f"{where}: kind {method.kind} needs an adapter")
        matrix.methods[method.name] = dataclasses.replace(method, settings=checked_all(where, method.settings))
    for stage in matrix.first_stages.values():
        _check_stage(f"{folder / 'first-stages.yaml'}: {stage.name}", stage)
    for table in list(matrix.tables.values()):
        where = f"{folder / 'tables.yaml'}: {table.name}"
        for of in ("datasets", "first_stages", "methods", "measures"):
            if not getattr(table, of):
                raise InputError(f"{where}: names no {of.replace('_', ' ')}")
        known(where, "dataset", table.datasets, matrix.datasets)
        known(where, "first stage", table.first_stages, matrix.first_stages)
        known(where, "method", [*table.methods, *([table.reference] if table.reference else [])], matrix.methods)
        known(where, "measure", table.measures, MEASURES)
        known(where, "scale", table.scales or [], matrix.scales)
        if table.vary is not None:
            if set(table.vary) != {"setting", "values"} or not isinstance(table.vary["values"], list):
                raise InputError(f"{where}: vary has a setting and a list of values")
            if not table.vary["values"]:
                raise InputError(f"{where}: vary names no values")
            setting = table.vary["setting"]
            known(where, "setting", [setting], SETTINGS)
            vary = variation(where, setting, table.vary["values"])
            matrix.tables[table.name] = dataclasses.replace(table, vary=vary)
    return matrix


def _check_scale(where: str, scale: Scale) -> None:
    for name, least in _LEAST.items():
        value = getattr(scale, name)
        if value is not None and not least <= value < math.inf:
            raise InputError(f"{where}: {name} is a number from {least}, not {value}")
    for name in _ABOVE_NONE:
        value = getattr(scale, name)
        if value is not None and not 0 < value < math.inf:
            raise InputError(f"{where}: {name} is a number above 0, not {value}; or leave it out")
    for name in ("pick", "dtype"):
        if getattr(scale, name) is not None:
            known(where, name, [getattr(scale, name)], CHOICES[name])


def _check_stage(where: str, stage: FirstStage) -> None:
    known(where, "kind", [stage.kind], ("search", "run"))
    if (stage.k1 is None) != (stage.b is None):
        raise InputError(f"{where}: k1 and b go together; set both or neither")
    if stage.kind == "run" and not stage.path:
        raise InputError(f"{where}: kind run needs a path")
    if stage.kind == "run" and stage.k1 is not None:
        raise InputError(f"{where}: kind run searches nothing; leave k1 and b out")
    if stage.kind == "search" and stage.path:
        raise InputError(f"{where}: kind search takes no path; write kind: run, or leave it out")


def checked(where: str, setting: str, value: Any) -> Any:
    """A setting's value in its own type; YAML takes 1e-3, without a dot, for a word.

    :raises InputError: for a value of another kind, and for a word that is none of :data:`CHOICES`.
    """
    if setting in _SWITCHES:
        if not isinstance(value, bool):
            raise InputError(f"{where}: {setting} is true or false, not {value!r}")
    elif setting in (*_WHOLE, *_NUMBERS):
        what = "a whole number" if setting in _WHOLE else "a number"
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if not math.isfinite(number) or (setting in _WHOLE and (not number.is_integer() or number < 0)):
            raise InputError(f"{where}: {setting} is {what}, not {value!r}")
        return int(number) if number.is_integer() else number
    elif not isinstance(value, str):
        raise InputError(f"{where}: {setting} is a word, not {value!r}")
    elif setting in CHOICES:
        known(where, setting, [value], CHOICES[setting])
    return value


def checked_all(where: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """:func:`checked` for several settings."""
    return {name: checked(where, name, value) for name, value in settings.items()}


def variation(where: str, setting: str, values: Iterable[Any]) -> dict[str, Any]:
    """What a table varies (:attr:`Table.vary`), each value once: a condition has one name, and its steps one key, however it is spelled.

    :raises InputError: for a value of another kind, and two that would have one name.
    """
    listed = list(dict.fromkeys(checked(where, setting, value) for value in values))
    names: dict[str, Any] = {}
    for value in listed:
        other = names.setdefault(short(value), value)
        if other is not value:
            raise InputError(f"{where}: {other} and {value} would both be called {short(value)}; rename one")
    return {"setting": setting, "values": listed}


def short(value: Any) -> str:
    """A setting's value in names; of a model's name the last part."""
    return str(value).rpartition("/")[2]


def within(measures: Iterable[str], depth: int) -> list[str]:
    """The measures that a run of this depth can tell: a cut below its end repeats the one at its end. All, where it can
    tell none.
    """
    listed = list(measures)
    return [name for name in listed if int(name.partition("@")[2] or 0) <= max(depth, CUTS[1])] or listed
