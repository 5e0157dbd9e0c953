"""A measure by alpha, the weight of the likelihood, on the test questions; a dot where dev would have it."""

from collections.abc import Mapping, Sequence

from eval.figures.style import BASE, Look, Panel, panel, to_svg
from eval.mixing import ALPHAS, Fused


def draw(name: str, title: str, fused: Sequence[Fused], shown: Mapping[str, Look]) -> Panel | None:
    """A panel of a data set's rerankers; None where there is nothing to average."""
    drawn = [one for one in fused if one.curve]
    if not drawn:
        return None
    parts = []
    with panel() as (figure, axes):
        axes.axhline(100 * drawn[0].curve[0], color=BASE, linewidth=1, dashes=(1.5, 1.5))
        for one in drawn:
            look, points = shown[one.condition.row], [100 * value for value in one.curve]
            axes.plot(ALPHAS, points, **look.line)
            place = one.chosen
            chosen = "no dev run" if place is None else f"dev chooses {ALPHAS[place]:.2f}: {points[place]:.2f}"
            parts.append(f"{one.condition.title} alone {points[-1]:.2f}, {chosen}")
            if place is not None:
                axes.plot(ALPHAS[place], points[place], "o", color=look.colour, markersize=7, markeredgecolor="white")
        axes.set_xlabel("alpha: first stage (0) to model (1)")
        axes.set_ylabel(f"{drawn[0].measure}, points")
        said = f"{drawn[0].measure} by alpha, {title}; first stage {100 * drawn[0].curve[0]:.2f}; {'; '.join(parts)}"
        note = "" if any(one.dev for one in drawn) else "No dev run exists here: no alpha is chosen."
        return Panel(title, to_svg(figure, f"sweep-{name}", said), said, note)
