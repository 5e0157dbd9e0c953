"""What a report is made of: its material, and its sections with their tables and panels."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from eval.chain import Chain
from eval.conditions import Condition
from eval.design import Matrix
from eval.figures.style import Look, Panel, looks
from eval.store import Store
from eval.values import Values


@dataclass(frozen=True)
class Rows:
    """Rows of a table under one heading; cells are HTML."""

    heading: str
    cells: list[list[str]]


@dataclass(frozen=True)
class Shown:
    """A table: ``columns`` are (name, whether its cells are words)."""

    caption: str
    columns: list[tuple[str, bool]]
    groups: list[Rows]
    summary: str = ""


@dataclass(frozen=True)
class Grid:
    """Panels side by side; ``small`` ones stand closer."""

    heading: str
    panels: list[Panel]
    small: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page with a heading."""

    name: str
    title: str
    text: str = ""
    tables: list[Shown] = field(default_factory=list)
    legend: list[tuple[str, Look]] = field(default_factory=list)
    grids: list[Grid] = field(default_factory=list)


@dataclass(frozen=True)
class Material:
    """What sections are made of.

    :param measured: every finished condition's values; ``measure``: what figures show.
    """

    measured: Mapping[Condition, Values]
    chain: Chain
    store: Store
    matrix: Matrix
    measure: str

    @property
    def plain(self) -> dict[Condition, Values]:
        """The conditions without a varied setting."""
        return {condition: values for condition, values in self.measured.items() if condition.setting is None}

    @property
    def looks(self) -> dict[str, Look]:
        """A look for every method, the same in all figures."""
        return looks({method.name: method.kind for method in self.matrix.methods.values()})

    @property
    def reference(self) -> str:
        """The reranker that figures compare the others with: the matrix's first way without an adapter, if any."""
        return next((method.name for method in self.matrix.methods.values() if method.kind == "prompt"), "")

    def legend(self, conditions: Iterable[Condition]) -> list[tuple[str, Look]]:
        """Title and look of the methods among conditions, in the matrix's order."""
        present = {condition.method.name for condition in conditions}
        shown = self.looks
        return [(m.title, shown[m.name]) for m in self.matrix.methods.values() if m.name in present]
