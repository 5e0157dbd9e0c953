"""R@k and H@k by k, a panel a data set."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eval.figures.style import Look, Panel, panel, to_svg

if TYPE_CHECKING:
    import pandas


def draw(found: "pandas.DataFrame", letter: str, cuts: Sequence[int], shown: Mapping[str, Look]) -> list[Panel]:
    """Panels of a measure, ``R`` or ``H``.

    :param found: of :func:`eval.results.means`, one convention; its rows are series.
    """
    panels = []
    for (dataset, stage), group in found.groupby(["dataset", "first_stage"], sort=False):
        first = group.iloc[0]
        values = group.pivot_table(index="row", columns="measure", values="mean", sort=False)
        several = found.first_stage.nunique() > 1
        title = first.dataset_title + (f", {stage}" if several else "")
        titles = dict(zip(group.row, group.title, strict=True))
        parts = []
        with panel() as (figure, axes):
            for row, look in shown.items():
                if row not in values.index:
                    continue
                points = [float(values.loc[row, f"{letter}@{cut}"]) for cut in cuts]
                axes.plot(cuts, points, marker="o", **look.line)
                parts.append(f"{titles[row]} {points[0]:.1f} to {points[-1]:.1f}")
            axes.set_xticks(cuts)
            axes.set_xlabel("k")
            axes.set_ylabel(f"{letter}@k, points")
            said = f"{letter}@k of {title} from k = {cuts[0]} to {cuts[-1]}: {'; '.join(parts)}"
            panels.append(Panel(title, to_svg(figure, f"curve-{letter}-{dataset}-{stage}", said), said))
    return panels
