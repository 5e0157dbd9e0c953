"""How a panel looks, and how it becomes SVG that can stand in a page among others."""

import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from qpeft_rerank.errors import MissingError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, FAINT, GRID = "#1a1a1f", "#4a4a55", "#e2e2e8"
GAIN, LOSS = "#0072b2", "#d55e00"
#: A first stage, wherever it is shown.
BASE = "#55555f"
# Okabe and Ito's colours, which colour-blind readers can tell apart, some darkened for a white page, and
# others between them. Dashes tell kinds of methods apart in a grey print, too.
_COLOURS = ("#0072b2", "#3f9bd1", "#8294c4", "#b04a87", "#c98600", "#009e73", "#7a4fb5", "#d55e00", "#1a1a1f")
_COLOURS += ("#8c564b", "#6b7f2a")
_DASHES: dict[str, tuple[float, ...]] = {"prompt": (5, 2), "untrained": (1.5, 1.5), "trained": ()}
_DASHES["ready"] = (6, 1.5, 1.5, 1.5)
# For further methods of a kind whose colour was given to one before: there are more methods than colours.
_MORE: tuple[tuple[float, ...], ...] = ((9, 2), (3, 1), (9, 1.5, 1.5, 1.5, 1.5, 1.5), (2.5, 2.5, 1, 2.5))
_SETTINGS = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#9a9aa6",
    "axes.labelcolor": FAINT,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": "#9a9aa6",
    "ytick.color": "#9a9aa6",
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": FAINT,
    "lines.linewidth": 1.6,
    "lines.markersize": 3.5,
    "svg.fonttype": "none",  # text stays text, in the page's font
}


@dataclass(frozen=True)
class Look:
    """A series' colour and dashes (lengths in points, none for a solid line)."""

    colour: str
    dashes: tuple[float, ...] = ()

    @property
    def line(self) -> dict[str, Any]:
        """For ``Axes.plot``."""
        return {"color": self.colour, **({"dashes": self.dashes} if self.dashes else {})}


@dataclass(frozen=True)
class Panel:
    """A picture of a page.

    :param title: short, above it; ``svg``: the element; ``said``: the same in words, for who cannot see it.
    :param note: a line below it.
    """

    title: str
    svg: str
    said: str
    note: str = ""


def looks(kinds: Mapping[str, str]) -> dict[str, Look]:
    """A look for each method, by its kind (:data:`eval.design.KINDS`); first stages are grey and dotted.

    No two have the same as long as there are looks.
    """
    others = [name for name, kind in kinds.items() if kind != "first-stage"]
    found = {name: Look(BASE, (1.5, 1.5)) for name in kinds if name not in others}
    for place, name in enumerate(others):
        ways = [Look(_COLOURS[place % len(_COLOURS)], dashes) for dashes in (_DASHES[kinds[name]], *_MORE)]
        found[name] = next((look for look in ways if look not in found.values()), ways[0])
    return found


@contextmanager
def panel(width: float = 3.5, height: float = 2.5) -> "Iterator[tuple[Figure, Axes]]":
    """A figure of one pair of axes, in inches.

    :raises MissingError: if matplotlib is not installed.
    """
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise MissingError("the report's figures need matplotlib; run: pip install matplotlib") from None
    with rc_context(_SETTINGS):
        figure = Figure(figsize=(width, height), layout="constrained")
        yield figure, figure.subplots()


def to_svg(figure: "Figure", name: str, said: str) -> str:
    """The figure as an ``<svg>`` element that scales with its place.

    :param name: unique on the page; every id of the element begins with it.
    """
    from matplotlib import rc_context

    stream = io.StringIO()
    # Without the salt and with the date, equal figures would differ.
    with rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="|url\()#', rf"\1#{name}-", text)
    view = re.search(r'viewBox="[^"]+"', text)
    opening = f'<svg role="img" aria-label="{escape(said)}" {view[0] if view else ""} '
    opening += 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    return re.sub(r"<svg\b[^>]*>", lambda _: opening, text, count=1)
