"""Figures stored before: what others published, and what this project itself should measure again."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval.design import MEASURES, Matrix
from eval.records import known, read_yaml
from eval.values import CONVENTIONS
from qpeft_rerank.errors import InputError

if TYPE_CHECKING:
    import pandas


def published(matrix: Matrix) -> dict[tuple[str, str, str], list[str]]:
    """(dataset, first stage, method) to what was published near it, each with its source.

    :raises InputError: for a figure of an unknown data set, method, measure or source.
    """
    path = matrix.folder / "published.yaml"
    values = read_yaml(path)
    found: dict[tuple[str, str, str], list[str]] = {}
    try:
        for figure in values["figures"]:
            known(str(path), "dataset", [figure["dataset"]], matrix.datasets)
            known(str(path), "method", [figure["method"]], matrix.methods)
            known(str(path), "measure", figure["values"], MEASURES)
            known(str(path), "source", [figure["source"]], values["sources"])
            said = ", ".join(f"{measure} {value:.2f}" for measure, value in figure["values"].items())
            key = (figure["dataset"], figure["first_stage"], figure["method"])
            found.setdefault(key, []).append(f"{figure['as']}: {said} [{figure['source']}]")
    except KeyError as error:
        raise InputError(f"{path}: a figure lacks {error}") from None
    except (TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{path}: a figure has dataset, first_stage, method, as, source, and values: {{measure: number}} ({error})"
        ) from None
    return found


def sources(matrix: Matrix) -> dict[str, str]:
    """What the short names of sources mean."""
    return dict(read_yaml(matrix.folder / "published.yaml").get("sources") or {})


class Expected:
    """This project's own figures for a scale (``matrix/expected.yaml``)."""

    def __init__(self, folder: Path, scale: str) -> None:
        path = folder / "expected.yaml"
        values = read_yaml(path)
        try:
            tolerance = values["tolerance"]
            self._ok, self._okish, self._topics = (float(tolerance[name]) for name in ("ok", "okish", "topics"))
            self._figures: Mapping[str, Any] = (values.get("figures") or {}).get(scale) or {}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise InputError(f"{path}: has tolerance: {{ok, okish, topics}}, and figures by scale") from None
        if not isinstance(self._figures, Mapping):
            raise InputError(f"{path}: {scale}: has figures by condition")
        for condition, entries in self._figures.items():
            for one in _listed(entries):
                if not _is_entry(one):
                    raise InputError(
                        f"{path}: {scale}, {condition}: has parameters, and under clean and full a number by measure; paste "
                        "it anew"
                    )

    def verdict(self, condition: str, parameters: Mapping[str, Any], measured: "pandas.DataFrame") -> str:
        """``[OK]``, ``[OKish]``, ``[FAIL]`` with the worst figure, or ``[new]`` where no figure is stored.

        :param measured: the condition's rows of :func:`eval.results.means`.
        """
        entries = _listed(self._figures.get(condition))
        stored = next((one for one in entries if one.get("parameters") == dict(parameters)), None)
        if stored is None:
            return "[new]"
        # Two decimals are shown and stored.
        exact, said = True, ""
        worst: float | None = None
        for convention in CONVENTIONS:
            for measure, value in (stored.get(convention) or {}).items():
                rows = measured[(measured.convention == convention) & (measured.measure == measure)]
                if rows.empty:
                    continue
                row = rows.iloc[0]
                off = abs(round(float(row["mean"]), 2) - float(value))
                exact = exact and off <= self._ok + 1e-9
                share = off / self._leeway(parameters, int(row["topics"]))
                if worst is None or not share <= worst:
                    worst, said = share, f"{measure} {float(value):.2f} ({convention})"
        if worst is None:
            return "[new]"  # what is stored are other measures
        if exact:
            return "[OK]"
        return "[OKish]" if worst <= 1 else f"[FAIL] expected {said}"

    def _leeway(self, parameters: Mapping[str, Any], topics: int) -> float:
        """Points that a figure may be off: in low precision, what another processor's rounding may change."""
        exact = parameters.get("dtype", "float32") == "float32"
        return self._okish if exact else max(self._okish, 100 * self._topics / max(topics, 1))


def _listed(entries: Any) -> list[Any]:
    """What is stored of a condition: several, where it was measured with several parameters."""
    return entries if isinstance(entries, list) else [entries] if entries else []


def _is_entry(value: Any) -> bool:
    """Tell whether it is as :func:`entry` has it."""
    if not isinstance(value, Mapping) or not isinstance(value.get("parameters"), Mapping):
        return False
    figures = [value.get(convention) or {} for convention in CONVENTIONS]
    return all(isinstance(one, Mapping) and all(isinstance(n, int | float) for n in one.values()) for one in figures)


def entry(parameters: Mapping[str, Any], measured: "pandas.DataFrame") -> dict[str, Any]:
    """What ``expected.yaml`` would hold for a condition measured now."""
    figures: dict[str, Any] = {"parameters": dict(parameters)}
    for convention, rows in measured.groupby("convention"):
        # A list without a topic has no figure to meet.
        kept = rows[rows["mean"].notna()]
        figures[str(convention)] = {row.measure: round(float(row.mean), 2) for row in kept.itertuples()}
    return figures
