"""How long steps will take: by what like steps took in this work folder, else by operations and speed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.steps import Step
from qpeft_rerank.console import duration


class Estimator:
    """Seconds of steps, each with the whole machine: what several took at a time is divided by their number.

    What was timed counts for what is like it only: the same model, or the same collection. A small model's steps here
    say nothing of a large one's on a GPU, nor a small index's of Wikipedia's.

    :param records: of finished steps (:meth:`eval.store.Store.records`).
    :param speed: operations a second of the machine that is meant, or how to measure this one's.
    :param work: the steps' folder, as their commands name it.
    """

    def __init__(
        self, records: Iterable[Mapping[str, Any]], speed: float | Callable[[], float], work: Path = Path()
    ) -> None:
        self._work = work
        self._speed, self._measure = (None, speed) if callable(speed) else (speed, None)
        timed: dict[tuple[str, ...], list[tuple[float, float]]] = {}
        for record in records:
            if record.get("seconds"):
                seconds = float(record["seconds"]) / record.get("jobs", 1)
                operations = float(record["operations"])
                timed.setdefault(_like(record["kind"], operations, record["command"]), []).append((seconds, operations))
        self._seconds = {like: sum(s for s, _ in pairs) / len(pairs) for like, pairs in timed.items()}
        sums = {like: (sum(s for s, o in pairs if o), sum(o for _, o in pairs)) for like, pairs in timed.items()}
        self._rates = {like: seconds / operations for like, (seconds, operations) in sums.items() if operations}

    def seconds(self, step: Step) -> float | None:
        """The time that a step will take; None if nothing is known of its kind."""
        like = _like(step.kind, step.operations, step.command(self._work))
        if not step.operations:
            return self._seconds.get(like)
        if like in self._rates:
            return self._rates[like] * step.operations
        if self._speed is None:
            assert self._measure is not None
            self._speed = self._measure()
        return step.operations / self._speed

    def said(self, steps: Iterable[Step]) -> str:
        """The time of steps in words; how many more cannot be estimated, if any."""
        found = [self.seconds(step) for step in steps]
        estimated = [value for value in found if value is not None]
        if not estimated:
            return duration(None)
        return duration(sum(estimated)) + (f" and {found.count(None)} more unknown" if None in found else "")

    def basis(self) -> str:
        """What the estimate rests on, in a few words."""
        if self._speed is None:
            return "as such steps took here"
        speed = f"{self._speed / 1e12:,.3g} TFLOP/s"
        return f"GPU time at an assumed {speed}" if self._measure is None else f"at {speed}, measured on this machine"


def _like(kind: str, operations: float, words: Sequence[str]) -> tuple[str, ...]:
    """What steps that take like times have in common: their kind, and the model or else the collection they name."""
    flags = ("--model",) if operations else ("--index", "--corpus")
    return kind, *(words[words.index(flag) + 1] for flag in flags if flag in words[:-1])


def measured_speed(device: str | None, dtype: str | None) -> float:
    """Operations a second that a forward pass should reach here, right within a factor of two."""
    from qpeft_rerank.likelihood.cost import estimated_seconds
    from qpeft_rerank.likelihood.language_model import pick_device, pick_precision

    place = pick_device(device or "auto")
    return 1e12 / estimated_seconds(10**12, place, pick_precision(dtype or "auto", place))
