"""The order of measurements: everything once, then everything again, so that no row has the better hour."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from eval.benchmarks.contestants import Contestant
from eval.benchmarks.measurements import Measurements, Once
from eval.benchmarks.processes import run_job
from eval.benchmarks.table import Results
from qpeft_rerank.cache import cache_dir
from qpeft_rerank.errors import InputError

# A dtype that multiplies matrices this many times slower than float32 has no unit of its own here.
_SLOW = 3.0


@dataclass(slots=True)
class Plan:
    """What is to be measured, and what is known of it.

    :param prepared: see :func:`eval.benchmarks.prepare.prepare`.
    :param packages: the Python that has the published packages, or None.
    """

    model: str
    prepared: dict[str, Any]
    rows: list[Contestant]
    threads: list[int]
    repeats: int
    packages: str | None = None

    @property
    def workloads(self) -> dict[str, dict[str, Any]]:
        """Each workload's facts."""
        found: dict[str, dict[str, Any]] = self.prepared["workloads"]
        return found

    def rows_of(self, workload: str) -> list[Contestant]:
        """The rows that are measured there."""
        return [row for row in self.rows if workload in row.workloads]

    def lines(self) -> Iterator[str]:
        """What will be measured, a line a workload."""
        for name, facts in self.workloads.items():
            rows = self.rows_of(name)
            yield f"{name}: {facts['pairs']} pairs, {len(rows)} rows: {', '.join(row.name for row in rows)}"


class Rounds:
    """Runs a plan; what the file of measurements has is taken from there."""

    def __init__(self, plan: Plan, kept: Measurements) -> None:
        self.plan = plan
        self.results = Results(plan.workloads)
        self._once = Once(kept, plan.prepared["identity"])
        self._t5: str | None = None

    def run(self) -> Results:
        """Measure; return everything."""
        for name, facts in self.plan.workloads.items():
            for adapter in dict.fromkeys([None, *(row.adapter for row in self.plan.rows_of(name))]):
                job = {"kind": "reference", "adapter": adapter, **self._common(name, 1)}
                found = self._once(f"reference {name} {adapter or 'plain'}", job, facts["digest"])
                self.results.references[name, adapter] = found
        for repeat in range(self.plan.repeats):
            for threads in self.plan.threads:
                self._ceilings(threads, repeat)
                for name in self.plan.workloads:
                    rows = self.plan.rows_of(name)
                    # Each round starts with another row.
                    for place in range(len(rows)):
                        self._measure(rows[(place + repeat) % len(rows)], name, threads, repeat)
        return self.results

    def _common(self, name: str, threads: int) -> dict[str, Any]:
        return {"model": self.plan.model, "workload": self.plan.workloads[name]["file"], "threads": threads}

    def _ceilings(self, threads: int, repeat: int) -> None:
        for dtype in dict.fromkeys(["float32", *(row.dtype for row in self.plan.rows)]):
            job = {"kind": "ceiling", "dtype": dtype, "model": self.plan.model, "threads": threads, "repeat": repeat}
            found = self._once(f"ceiling {dtype} t{threads} r{repeat}", job)
            self.results.ceilings.setdefault((threads, dtype), []).append(found)

    def _measure(self, row: Contestant, name: str, threads: int, repeat: int) -> None:
        rows = self.results.rows.setdefault((threads, name), [(row, []) for row in self.plan.rows_of(name)])
        skipped = self.results.skipped.setdefault((threads, name), {})
        if row.label in skipped:
            return
        if why := self._obstacle(row, threads):
            skipped[row.label] = why
            return
        try:
            found = self._scored(row, name, threads, repeat)
        except InputError as error:
            if not row.foreign:
                raise
            skipped[row.label] = str(error)  # someone else's package, which may fail in its own way
            return
        next(of for other, of in rows if other is row).append(found)

    def _scored(self, row: Contestant, name: str, threads: int, repeat: int) -> dict[str, Any]:
        job = {"kind": "measure", "row": row.name, "way": row.way, "settings": row.settings}
        job |= self._common(name, threads)
        python = sys.executable
        if row.foreign:
            python = str(self.plan.packages)
            job |= {"kind": row.way, "folder": self.plan.prepared["folder"], "gguf": self.plan.prepared["gguf"]}
            if row.way == "package":
                job["t5"] = self._make_t5(job["workload"], python)
        given, label = self.plan.workloads[name]["digest"], f"{name} {row.name} t{threads}"
        batch = next(iter(row.batches), None)
        if len(row.batches) > 1:
            batch = self._best_batch(row, job, label, given, python)
        job |= {"batch": batch, "repeat": repeat}
        found = self._once(f"{label} r{repeat}", job, given, python) | {"batch": batch}
        if row.way == "package":
            needed = {
                "kind": "t5_operations",
                "way": row.way,
                "workload": job["workload"],
                "t5": job["t5"],
                "threads": 1,
            }
            found |= self._once(f"{name} operations", needed, given, python)
        return found

    def _best_batch(self, row: Contestant, job: dict[str, Any], label: str, given: str, python: str) -> int:
        if row.way == "loop":
            found = self._once(f"search {label}", {**job, "kind": "search", "batches": row.batches}, given)
            return int(found["batch"])
        seconds = {}
        for batch in row.batches:
            found = self._once(f"search {label} batch {batch}", {**job, "batch": batch}, given, python)
            seconds[batch] = found["score"][0]
        return min(seconds, key=lambda batch: seconds[batch])

    def _make_t5(self, workload: str, python: str) -> str:
        """The folder of the stand-in for a T5 checkpoint."""
        if self._t5 is None:
            folder = cache_dir() / "benchmarks" / "t5-base-random"
            folder.parent.mkdir(parents=True, exist_ok=True)
            job = {"kind": "make_t5", "threads": 1, "folder": str(folder), "workload": workload}
            self._t5 = str(run_job(job, python)["folder"])
        return self._t5

    def _obstacle(self, row: Contestant, threads: int) -> str | None:
        """Why a row cannot run here, or None."""
        if row.foreign and self.plan.packages is None:
            return "it needs --packages, a Python that has it"
        if row.dtype == "float32":
            return None
        slow = self._layers(threads, "float32") / self._layers(threads, row.dtype)
        if slow <= _SLOW:
            return None
        return f"this processor has no {row.dtype} unit: its products take {slow:.0f} times as long as float32's"

    def _layers(self, threads: int, dtype: str) -> float:
        return max(float(found["layers"]) for found in self.results.ceilings[threads, dtype])
