"""Curves of what was measured, as SVG."""

from pathlib import Path
from statistics import median
from typing import Any

#: Title and the name of the quantity, by axis.
AXES = {
    "batch": ("Tokens in a forward pass", "tokens"),
    "length": ("Tokens of a passage", "tokens"),
    "depth": ("Passages a topic", "depth"),
    "repeats": ("Topics a passage", "topics"),
    "size": ("Weights of the model's body", "million weights"),
    "pairs": ("Pairs of a run", "pairs"),
}


def draw(axis: str, points: list[tuple[int, str, Any, list[dict[str, Any]]]], path: Path) -> None:
    """Draw an axis's curves: pairs a second, and for ``pairs`` seconds and memory.

    :param points: threads, sharing, value, measurements.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    # Equal measurements give equal files.
    mpl.rcParams["svg.hashsalt"] = axis
    from matplotlib import pyplot

    title, quantity = AXES[axis]
    shown = [("pairs a second", _rate)] if axis != "pairs" else [("seconds", seconds), ("peak MB", _peak)]
    figure, panels = pyplot.subplots(1, len(shown), figsize=(5 * len(shown), 3.5), squeeze=False)
    for panel, (label, read) in zip(panels[0], shown, strict=True):
        curves: dict[tuple[int, str], list[tuple[float, float]]] = {}
        for threads, share, value, entries in points:
            at = float(str(value).removesuffix("M"))
            curves.setdefault((threads, share), []).append((at, median(read(entry, threads) for entry in entries)))
        for (threads, share), curve in curves.items():
            sharing = {"off": "plain", "auto": "passages shared"}[share]
            panel.plot(*zip(*sorted(curve), strict=True), marker="o", label=f"{sharing}, {threads} threads")
        panel.set_xlabel(quantity)
        panel.set_ylabel(label)
        if axis != "pairs":
            panel.set_xscale("log", base=2)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
        panel.legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def seconds(entry: dict[str, Any], threads: int) -> float:
    """Processor seconds of each thread: what other programs take of the machine meanwhile hardly shows in them."""
    return float(entry["score"][1]) / threads


def _rate(entry: dict[str, Any], threads: int) -> float:
    return float(entry["pairs"]) / seconds(entry, threads)


def _peak(entry: dict[str, Any], threads: int) -> float:
    return float(entry["peak_mb"])
