"""What a reranker gains and loses topic by topic, sorted from the most gained to the most lost."""

import numpy

from eval.figures.style import FAINT, GAIN, LOSS, Panel, panel, to_svg


def draw(name: str, title: str, against: str, differences: numpy.ndarray) -> Panel:
    """A panel of bars.

    :param name: unique among the panels.
    :param differences: ``[topics]`` in points, more than 0 where the reranker is better.
    """
    ordered = numpy.sort(differences)[::-1]
    up, down = int((ordered > 0).sum()), int((ordered < 0).sum())
    counts = f"{up} better, {down} worse, {len(ordered) - up - down} equal"
    said = f"{title} against {against}, {len(ordered)} topics: {counts}, {ordered.mean():+.2f} points on average"
    edges = numpy.arange(len(ordered) + 1)
    with panel(2.5, 1.35) as (figure, axes):
        for part, colour in ((numpy.clip(ordered, 0, None), GAIN), (numpy.clip(ordered, None, 0), LOSS)):
            axes.stairs(part, edges, fill=True, color=colour, linewidth=0)
        axes.axhline(0, color=FAINT, linewidth=0.8)
        axes.set_ylim(-105, 105)
        axes.set_yticks([-100, 0, 100], ["−100", "0", "+100"])
        axes.set_xlim(0, len(ordered))
        axes.set_xticks([])
        axes.spines["bottom"].set_visible(False)
        svg = to_svg(figure, f"gain-{name}", said)
    mean = f"{ordered.mean().round(2) + 0.0:+.2f}".replace("-", "−")  # no -0.00
    return Panel(title, svg, said, f"▲ {up}  ▼ {down}  mean {mean}")
