"""How long steps will take: by what like steps took in this work folder, else by operations and speed."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from eval.steps import Step


class Estimator:
    """Seconds of steps, each with the whole machine: what several took at a time is divided by their number.

    :param records: of finished steps (:meth:`eval.store.Store.records`).
    :param speed: operations a second of the machine that is meant, or None to measure this one's.
    """

    def __init__(self, records: Iterable[Mapping[str, Any]], speed: float | None = None) -> None:
        self._speed = speed
        self._assumed = speed is not None
        timed: dict[str, list[tuple[float, float]]] = {}
        for record in records:
            if record.get("seconds"):
                seconds = float(record["seconds"]) / record.get("jobs", 1)
                timed.setdefault(record["kind"], []).append((seconds, float(record["operations"])))
        self._seconds = {kind: sum(s for s, _ in pairs) / len(pairs) for kind, pairs in timed.items()}
        sums = {kind: (sum(s for s, o in pairs if o), sum(o for _, o in pairs)) for kind, pairs in timed.items()}
        self._rates = {kind: seconds / operations for kind, (seconds, operations) in sums.items() if operations}

    def seconds(self, step: Step) -> float | None:
        """The time that a step will take; None if nothing is known of its kind."""
        if not step.operations:
            return self._seconds.get(step.kind)
        if step.kind in self._rates:
            return self._rates[step.kind] * step.operations
        if self._speed is None:
            self._speed = measured_speed()
        return step.operations / self._speed

    def said(self, steps: Iterable[Step]) -> str:
        """The time of steps in words; ``and more`` where some cannot be estimated."""
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
        return f"GPU time at an assumed {speed}" if self._assumed else f"at {speed}, measured on this machine"


def measured_speed() -> float:
    """Operations a second of a single-precision matrix product here, of which a forward pass reaches about half."""
    import numpy

    size = 768
    left, right = (numpy.ones((size, size), numpy.float32) for _ in range(2))
    best = float("inf")
    for _ in range(8):  # the best, as other processes only slow it down
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return 0.5 * 2 * size**3 / best


def duration(seconds: float | None) -> str:
    """A time for people."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
