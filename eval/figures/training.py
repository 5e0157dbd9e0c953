"""How trainings went: loss by step and the dev measure by epoch, from the adapters' own logs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from eval.figures.style import BASE, Look, Panel, panel, to_svg
from qpeft_rerank.errors import InputError


@dataclass(frozen=True)
class Log:
    """A training's log.

    :param losses: (step, loss).
    :param dev: MRR@10 as a fraction, before training and after each epoch.
    :param epoch: the one that was kept.
    :param without: the dev measure without the adapter.
    """

    title: str
    losses: list[tuple[int, float]]
    dev: list[float]
    epoch: int
    without: float | None


def read_training(folder: Path, title: str) -> Log:
    """The log in an adapter's folder, called ``title``.

    :raises InputError: for files that are not a training's.
    """
    from qpeft_rerank.training.logbook import read_log

    try:
        rows = read_log(folder / "log.csv")
        losses = [(int(row["step"]), float(row["loss"])) for row in rows if row["loss"]]
        record = json.loads((folder / "training.json").read_text("utf-8"))
        dev = list(map(float, record["dev_by_epoch"]))
        without = next((float(v) for name, v in record["dev"].items() if name.endswith(", zero-shot")), None)
        return Log(title, losses, dev, int(record["epoch"]), without)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        raise InputError(f"{folder}: not a training's log; delete the folder and train again") from None


def draw_loss(name: str, title: str, logs: Mapping[str, Log], shown: Mapping[str, Look]) -> Panel | None:
    """The losses of a data set's trainings, as running means; None where none was logged.

    :param logs: by the method's name.
    """
    logs = {row: log for row, log in logs.items() if log.losses}
    if not logs:
        return None
    parts = []
    with panel() as (figure, axes):
        for row, log in logs.items():
            steps, values = zip(*log.losses, strict=True)
            width = max(1, len(values) // 20)
            smooth = [fmean(values[max(0, place - width + 1) : place + 1]) for place in range(len(values))]
            axes.plot(steps, smooth, **shown[row].line)
            parts.append(f"{log.title} {smooth[0]:.3g} to {smooth[-1]:.3g}")
        axes.set_xlabel("optimizer step")
        axes.set_ylabel("loss")
        said = f"Training loss, {title}, running mean: {'; '.join(parts)}"
        return Panel(title, to_svg(figure, f"loss-{name}", said), said)


def draw_dev(name: str, title: str, logs: Mapping[str, Log], shown: Mapping[str, Look]) -> Panel | None:
    """The dev measure of a data set's trainings after each epoch; None where none was measured."""
    logs = {row: log for row, log in logs.items() if log.dev}
    if not logs:
        return None
    parts = []
    with panel() as (figure, axes):
        # Prompts differ by method, and so may the model alone.
        for without in sorted({log.without for log in logs.values() if log.without is not None}):
            axes.axhline(100 * without, color=BASE, linewidth=1, dashes=(1.5, 1.5))
        for row, log in logs.items():
            look, points = shown[row], [100 * value for value in log.dev]
            axes.plot(range(len(points)), points, marker="o", **look.line)
            axes.plot(log.epoch, points[log.epoch], "o", color=look.colour, markersize=8, markeredgecolor="white")
            parts.append(f"{log.title} {points[0]:.2f} before, {points[log.epoch]:.2f} kept (epoch {log.epoch})")
        axes.set_xlabel("epoch")
        axes.set_ylabel("dev MRR@10, points")
        axes.xaxis.get_major_locator().set_params(integer=True)
        said = f"Dev MRR@10 by epoch, {title}: {'; '.join(parts)}"
        return Panel(title, to_svg(figure, f"dev-{name}", said), said)
