"""A measure by the value of a setting, with 95 % bootstrap intervals."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.conditions import Condition
from eval.figures.style import Look, Panel, panel, to_svg

if TYPE_CHECKING:
    import pandas


def draw(
    name: str,
    setting: str,
    values: Sequence[Any],
    conditions: Sequence[Condition],
    found: "pandas.DataFrame",
    measure: str,
    shown: Mapping[str, Look],
) -> list[Panel]:
    """A panel a data set (and their mean) and first stage, a line a method; unvaried methods are level lines.

    :param values: of the setting, in the table's order; found: of :func:`eval.results.means`, one convention.
    """
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)
    places = {value: float(value) if numeric else float(place) for place, value in enumerate(values)}
    varied = {condition.row: condition for condition in conditions}
    panels = []
    found = found[found.measure == measure]
    several = found.first_stage.nunique() > 1
    for (dataset, stage), group in found.groupby(["dataset", "first_stage"], sort=False):
        title = group.iloc[0].dataset_title + (f", {stage}" if several else "")
        cells = {cell.row: cell for cell in group.itertuples()}
        lines: dict[str, list[tuple[float, Any]]] = {}
        parts = []
        with panel() as (figure, axes):
            for row, cell in cells.items():
                condition = varied[row]
                if condition.setting is None:
                    axes.axhline(cell.mean, linewidth=1.2, **shown[condition.method.name].line)
                else:
                    lines.setdefault(condition.method.name, []).append((places[condition.value], cell))
                parts.append(f"{cell.title} {cell.mean:.2f}")
            # Intervals of methods beside each other, not upon each other.
            shift = 0.012 * (max(places.values()) - min(places.values())) if numeric else 0.1
            for number, (method, points) in enumerate(lines.items()):
                look = shown[method]
                points.sort(key=lambda point: point[0])  # the table's order may be any; a line goes to the right
                x = [place + shift * (number - (len(lines) - 1) / 2) for place, _ in points]
                y = [cell.mean for _, cell in points]
                below = [max(0.0, cell.mean - cell.low) for _, cell in points]
                above = [max(0.0, cell.high - cell.mean) for _, cell in points]
                axes.errorbar(x, y, [below, above], fmt="none", ecolor=look.colour, elinewidth=1, capsize=2, alpha=0.6)
                axes.plot(
                    x,
                    y,
                    marker="o",
                    markersize=5,
                    **({"color": look.colour, "linestyle": ""} if not numeric else look.line),
                )
            axes.set_xticks(list(places.values()), [str(value).rpartition("/")[2] for value in places])
            if not numeric:
                axes.set_xlim(-0.5, len(places) - 0.5)
            axes.set_xlabel(setting)
            axes.set_ylabel(f"{measure}, points")
            said = f"{measure} by {setting}, {title}: {'; '.join(parts)}"
            panels.append(Panel(title, to_svg(figure, f"ablation-{name}-{dataset}-{stage}", said), said))
    return panels
