"""The record of a training: a CSV file, TensorBoard if wanted, and a picture at the end."""

import csv
import importlib.util
import io
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qpeft_rerank.errors import MissingError
from qpeft_rerank.files import write_whole
from qpeft_rerank.training.workfolder import Kept

COLUMNS = ("step", "epoch", "loss", "lr", "grad_norm", "tokens", "seconds", "dev")


class Logbook:
    """``log.csv``: a row for each optimizer step, and one with ``dev`` after each epoch.

    :param path: the CSV file.
    :param step: the step that the training goes on from; later rows of an earlier attempt are removed, and all that
        TensorBoard has of one that nothing is left of, for the output gets what is there.
    :param tensorboard: also write event files beside the CSV file.
    :raises MissingError: if TensorBoard is wanted and not installed.
    """

    def __init__(self, path: Path, step: int, epochs_judged: int, tensorboard: bool = False) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [row for row in read_log(path) if _belongs(row, step, epochs_judged)]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(kept)
        write_whole(path, text.getvalue().encode("ascii", "replace"))
        if not step and not epochs_judged:
            shutil.rmtree(path.parent / Kept.BOARD, ignore_errors=True)
        self._file = path.open("a", encoding="ascii", newline="")
        self._writer = csv.DictWriter(self._file, COLUMNS, lineterminator="\n")
        self._board = _board(path.parent / Kept.BOARD, step) if tensorboard else None

    def write(self, values: Mapping[str, Any]) -> None:
        """Append a row; absent columns stay empty."""
        self._writer.writerow({key: _short(value) for key, value in values.items()})
        self._file.flush()
        if self._board is not None:
            for key, value in values.items():
                if key not in ("step", "epoch"):
                    self._board.add_scalar(key, value, values["step"])

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def read_log(path: Path) -> list[dict[str, str]]:
    """The complete rows of a log, as text; none if there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text("ascii", "replace").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    return [row for row in csv.DictReader(whole) if _is_row(row)]


def _is_row(row: Mapping[str, Any]) -> bool:
    """Whether a line is one that :class:`Logbook` writes."""
    try:
        int(row["step"]), int(row["epoch"])
        return bool([float(row[name]) for name in COLUMNS[2:] if row[name]] or True)
    except (KeyError, TypeError, ValueError):
        return False


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(log: Path, picture: Path, first_stage: float | None = None) -> bool:
    """Draw loss by step and dev metric by epoch as a PNG; False where matplotlib cannot be imported."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    rows = read_log(log)
    losses = [(int(row["step"]), float(row["loss"])) for row in rows if row["loss"]]
    devs = [(int(row["step"]), float(row["dev"])) for row in rows if row["dev"]]
    figure = Figure(figsize=(7, 5), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    if losses:
        steps, values = zip(*losses, strict=True)
        upper.plot(steps, values, color="0.75", linewidth=0.8, label="a step")
        width = max(1, len(values) // 20)
        smooth = [sum(part) / len(part) for part in (values[max(0, i - width + 1) : i + 1] for i in range(len(values)))]
        upper.plot(steps, smooth, color="C0", label=f"mean of {width}")
        upper.legend()
    upper.set_ylabel("loss (nats per token)")
    if devs:
        steps, values = zip(*devs, strict=True)
        lower.plot(steps, values, "o-", color="C1", label="reranked")
        if first_stage is not None:
            lower.axhline(first_stage, color="0.5", linestyle="--", label="first stage")
        lower.legend()
    lower.set_ylabel("dev MRR@10")
    lower.set_xlabel("optimizer step")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=120)
    write_whole(picture, drawn.getvalue())
    return True


def _belongs(row: Mapping[str, str], step: int, epochs_judged: int) -> bool:
    """Whether a row of an earlier attempt lies before the checkpoint."""
    if row["dev"]:
        return int(row["epoch"]) < epochs_judged
    return int(row["step"]) <= step


def _short(value: Any) -> Any:
    return f"{value:.6g}" if isinstance(value, float) else value


def _board(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise MissingError(
            "--tensorboard: not installed; run: pip install tensorboard (log.csv is always written)"
        ) from None
    return SummaryWriter(str(folder), purge_step=step + 1)
