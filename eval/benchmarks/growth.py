"""``--scaling`` and ``--overheads``: the points that are measured, and what is told of them."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from eval.benchmarks.first_stage import prepared
from eval.benchmarks.machine import sentence
from eval.benchmarks.measurements import Measurements, Once
from eval.benchmarks.plots import AXES, draw
from eval.benchmarks.plots import seconds as processor_seconds
from eval.benchmarks.table import markdown

_VALUES: dict[str, tuple[Any, ...]] = {
    "batch": (256, 512, 1024, 2048, 4096, 8192),
    "length": (32, 64, 128, 256, 512, 1024),
    "depth": (10, 20, 50, 100),
    "repeats": (1, 2, 4, 8, 16, 32),
    "size": ("7M", "32M", "106M", "314M"),
    "pairs": (1000, 5000, 10000, 20000, 50000),
}
_LARGE = "973M"
#: Where reading passages whole is a curve of its own.
_BOTH = ("depth", "repeats")
# Texts for the curves that make their own pairs of them.
_TEXTS = 2000
_LINES = 1_000_000


class Point(NamedTuple):
    """One point of one curve."""

    axis: str
    value: Any
    share: str
    workload: str


def growth(args: argparse.Namespace, kept: Measurements, folder: Path) -> list[str]:
    """Measure what was asked for; return the report, with the plots beside ``--output``."""
    lines = [f"Machine: {sentence(kept.machine)}. Medians of {args.repeats}, points alternating.", ""]
    if args.scaling:
        lines.insert(1, "Seconds, and what is told by the second, are processor seconds of each thread.")
        lines += _scaling(args, kept, folder)
    if args.overheads:
        lines += _overheads(args, kept, folder)
    return lines


def _prepare(args: argparse.Namespace, folder: Path, workload: str, pairs: int, depth: int = 100) -> dict[str, Any]:
    place = folder / f"{workload}-{pairs}-{depth}"
    place.mkdir(exist_ok=True)
    asked = argparse.Namespace(**vars(args) | {"workloads": [workload], "pairs": pairs, "depth": depth})
    found = prepared(asked, place)
    facts: dict[str, Any] = found["workloads"][workload]
    return facts | {"identity": found["identity"], "model": found["model"]}


def _scaling(args: argparse.Namespace, kept: Measurements, folder: Path) -> Iterator[str]:
    points = list(_points(args))
    sources = {
        "few": ("dl19", args.pairs, 100),
        "texts": ("dl19", _TEXTS, 100),
        **{f"depth {depth}": ("trivia", args.pairs, depth) for depth in _VALUES["depth"]},
    }
    needed = dict.fromkeys(point.workload for point in points)
    given = {name: _prepare(args, folder, *sources[name]) for name in needed}
    once = Once(kept, next(iter(given.values()))["identity"])
    found: dict[tuple[int, Point], list[dict[str, Any]]] = {}
    for repeat in range(args.repeats):
        for threads in args.threads:
            for point in points:
                facts = given[point.workload]
                pairs = max(4, args.pairs // 4) if point.value == _LARGE else args.pairs
                if point.axis == "depth":
                    # Part of a sample would have other numbers of topics a passage.
                    pairs = facts["pairs"]
                job = {"kind": "scale", "model": args.model, "threads": threads, "workload": facts["file"]}
                job |= {"axis": point.axis, "value": point.value, "share": point.share, "pairs": pairs}
                label = f"{point.axis} {point.value} {point.share} t{threads} r{repeat}"
                measured = once(label, job | {"repeat": repeat}, facts["digest"])
                found.setdefault((threads, point), []).append(measured)
    for axis, (title, _) in AXES.items():
        curves = {key: entries for key, entries in found.items() if key[1].axis == axis}
        if not curves:
            continue
        yield from ["", f"### {title}", ""]
        rows = [_row(*key, entries) for key, entries in curves.items()]
        yield from markdown((title, "passages shared", "threads", "pairs/s", "s", "10⁹ operations/s", "peak MB"), rows)
        picture = Path(args.output).with_suffix(f".{axis}.svg")
        draw(
            axis,
            [(threads, point.share, point.value, entries) for (threads, point), entries in curves.items()],
            picture,
        )
        yield from ["", f"![{title}]({picture.name})"]


def _points(args: argparse.Namespace) -> Iterator[Point]:
    for axis, values in _VALUES.items():
        if args.curves and axis not in args.curves:
            continue
        for value in (*values, *([_LARGE] if axis == "size" and args.large else [])):
            for share in ("off", "auto") if axis in _BOTH else ("auto",) if axis == "pairs" else ("off",):
                workload = f"depth {value}" if axis == "depth" else "few" if axis in ("batch", "size") else "texts"
                yield Point(axis, value, share, workload)


def _row(threads: int, point: Point, entries: list[dict[str, Any]]) -> tuple[str, ...]:
    seconds = median(processor_seconds(entry, threads) for entry in entries)
    operations = entries[0].get("operations")
    return (
        str(point.value),
        point.share,
        str(threads),
        f"{entries[0]['pairs'] / seconds:.2f}",
        f"{seconds:.1f}",
        f"{operations / seconds / 1e9:.1f}" if operations else "",
        f"{median(entry['peak_mb'] for entry in entries):,.0f}",
    )


def _overheads(args: argparse.Namespace, kept: Measurements, folder: Path) -> Iterator[str]:
    facts = _prepare(args, folder, "dl19", args.pairs)
    once = Once(kept, facts["identity"])
    found: dict[str, list[dict[str, Any]]] = {}
    for repeat in range(args.repeats):
        for what in ("files", "journal", "start"):
            job = {"kind": "overhead", "what": what, "threads": args.threads[0], "model": args.model, "lines": _LINES}
            job |= {"data": args.data, "folder": str(folder), "workload": facts["file"], "repeat": repeat}
            found.setdefault(what, []).append(once(f"overhead {what} r{repeat}", job, facts["digest"]))

    def middle(what: str, *names: str) -> float:
        return median(sum(_seconds(entry[name]) for name in names) for entry in found[what])

    journal = median(entry["journal"] / entry["score"][0] for entry in found["journal"])
    each = median(entry["journal"] / entry["pairs"] for entry in found["journal"])
    lines = f"{found['files'][0]['lines']:,}"
    yield from ["", "### Overheads", ""]
    yield from markdown(
        ("what", "seconds"),
        [
            (f"reading a run of {lines} lines", f"{middle('files', 'read'):.1f}"),
            ("joining it to a file of passages", f"{middle('files', 'join'):.1f}"),
            ("merging the scores and writing it", f"{middle('files', 'write'):.1f}"),
            ("all three", f"{middle('files', 'read', 'join', 'write'):.1f}"),
            (
                f"the journal, of {found['journal'][0]['pairs']} pairs' time",
                f"{journal:.4%} ({each * 1e6:.0f} µs a pair)",
            ),
            ("from the start to the first batch", f"{middle('start', 'first_batch'):.1f}"),
            ("from the start to the first score on disk", f"{middle('start', 'first_score'):.1f}"),
        ],
    )
    yield f"\nThe most memory with the run of {lines} lines: {median(e['peak_mb'] for e in found['files']):,.0f} MB."


def _seconds(value: Any) -> float:
    """Wall seconds of a lap, or a number as it is."""
    return float(value[0] if isinstance(value, list) else value)
