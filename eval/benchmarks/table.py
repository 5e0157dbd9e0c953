"""The measurements as Markdown tables."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from eval.benchmarks.agreement import largest_gap, rank_agreement
from eval.benchmarks.contestants import Contestant

_HEAD = (
    "row",
    "batch",
    "pairs/s (least, most)",
    "of best rival",
    "score wall s",
    "score CPU s",
    "load s",
    "process wall s",
    "process CPU s",
    "peak MB",
    "over model MB",
    "of ceiling",
    "max diff, nats/token",
    "tau",
)


@dataclass(slots=True)
class Results:
    """All that one table needs.

    :param facts: of each workload, see :mod:`eval.benchmarks.prepare`.
    :param references: by (workload, adapter), see :mod:`eval.benchmarks.reference`.
    :param ceilings: by (threads, dtype): what :mod:`eval.benchmarks.ceiling` gave, each time.
    :param rows: by (threads, workload): contestants with their measurements.
    :param skipped: by (threads, workload): rows that were not measured, and why.
    """

    facts: dict[str, dict[str, Any]]
    references: dict[tuple[str, str | None], dict[str, Any]] = field(default_factory=dict)
    ceilings: dict[tuple[int, str], list[dict[str, Any]]] = field(default_factory=dict)
    rows: dict[tuple[int, str], list[tuple[Contestant, list[dict[str, Any]]]]] = field(default_factory=dict)
    skipped: dict[tuple[int, str], dict[str, str]] = field(default_factory=dict)


def render(results: Results, machine: str, model: str, repeats: int) -> Iterator[str]:
    """The report, line by line."""
    yield f"Machine: {machine}. Model: {model}. Medians of {repeats}, each in a process of its own, rows alternating."
    yield ""
    yield from _ceilings(results)
    for (threads, name), rows in results.rows.items():
        yield ""
        yield f"### {name}, {threads} {'thread' if threads == 1 else 'threads'}"
        yield ""
        yield _about(results.facts[name])
        yield ""
        yield from markdown(_HEAD, [_row(results, threads, name, row, found, rows) for row, found in rows if found])
        if threads == 1 and (busy := [row.label for row, found in rows if _waited(found)]):
            yield f"\nThe machine was busy: wall time is more than a tenth above CPU time for {', '.join(busy)}."
        for row, why in results.skipped.get((threads, name), {}).items():
            yield f"\nNot measured: {row} ({why})"
    yield ""
    yield (
        "*Score* is tokenising and scoring after warm-up, *process* everything from start to end. *Of ceiling* counts "
        "the operations that the pairs' own tokens need, no padding and no logits but the query's; where passages are "
        "shared, each passage once; over the faster of the ceiling's two products. Differences are to the reference "
        "scorer, one pair a forward pass in float32; adapters' rows to it with the same adapter. Rivals read the plain "
        "prompt; adapters' rows are compared to them all the same, though they read more tokens. T5 rows have random "
        "weights and another architecture of about the size: compare their share of the ceiling."
    )


def _ceilings(results: Results) -> Iterator[str]:
    yield "### Matrix products, 10⁹ operations a second"
    yield ""
    rows = []
    for (threads, dtype), found in sorted(results.ceilings.items()):
        products = [f"{median(entry[kind] for entry in found) / 1e9:.1f}" for kind in ("square", "layers")]
        rows.append((str(threads), dtype, *products))
    yield from markdown(("threads", "dtype", "2048 x 2048", "the model's layers, 2048 tokens"), rows)


def _about(facts: dict[str, Any]) -> str:
    return (
        f"{facts['about']}: {facts['pairs']} pairs of {facts['tokens']:.0f} tokens on average (whole run: "
        f"{facts['whole_pairs']:,} of {facts['whole_tokens']:.0f}). Topics a passage: {facts['repeats']:.2f}, so that "
        f"{facts['repeated']:.1%} of the tokens repeat; in the whole run as the engine orders and cuts it "
        f"{facts['whole_repeats']:.2f} and {facts['whole_repeated']:.1%}."
    )


def _row(
    results: Results,
    threads: int,
    workload: str,
    row: Contestant,
    found: list[dict[str, Any]],
    rows: list[tuple[Contestant, list[dict[str, Any]]]],
) -> tuple[str, ...]:
    rates = [entry["pairs"] / entry["score"][0] for entry in found]
    rivals = [_rate(of) for other, of in rows if other.rival and other.same_task and of]
    gap = tau = "other model"
    if row.same_task:
        reference = results.references[workload, row.adapter]
        # The farthest of the repeats, though they should be one another's equals.
        tokens = reference["tokens"]
        gap = f"{max(largest_gap(entry['scores'], reference['scores'], tokens) for entry in found):.1e}"
        taus = [rank_agreement(reference["topics"], e["scores"], reference["scores"], tokens) for e in found]
        tau = f"{min(taus):.4f}"
    return (
        row.label,
        str(found[0].get("batch") or ""),
        f"{median(rates):.2f} ({min(rates):.2f}, {max(rates):.2f})",
        f"{median(rates) / max(rivals):.2f}" if rivals and row.same_task else "",
        f"{median(entry['score'][0] for entry in found):.1f}",
        f"{median(entry['score'][1] for entry in found):.1f}",
        f"{median(entry['load'][0] for entry in found):.1f}",
        f"{median(entry['process_wall'] for entry in found):.1f}",
        f"{median(entry['process_cpu'] for entry in found):.1f}",
        f"{median(entry['peak_mb'] for entry in found):,.0f}",
        f"{median(entry['peak_mb'] - entry['model_mb'] for entry in found):,.0f}",
        f"{share_of_ceiling(results, threads, workload, row, found):.2f}",
        gap,
        tau,
    )


def _waited(found: list[dict[str, Any]]) -> bool:
    """Whether other jobs took the processor while one thread scored, so that its rates tell too little."""
    return bool(found) and median(entry["score"][0] / entry["score"][1] for entry in found) > 1.1


def _rate(found: list[dict[str, Any]]) -> float:
    return median(entry["pairs"] / entry["score"][0] for entry in found)


def share_of_ceiling(
    results: Results, threads: int, workload: str, row: Contestant, found: list[dict[str, Any]]
) -> float:
    """Needed operations a second over the ceiling of the row's dtype."""
    top = max(median(entry[kind] for entry in results.ceilings[threads, row.dtype]) for kind in ("square", "layers"))
    if row.same_task:
        needs = results.references[workload, row.adapter]["distinct" if row.shares else "whole"]["operations"]
    else:
        needs = found[0]["operations"]
    return needs / median(entry["score"][0] for entry in found) / top


def markdown(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> Iterator[str]:
    """A table, the first column to the left and numbers to the right."""
    yield "| " + " | ".join(head) + " |"
    yield "|---" + "|---:" * (len(head) - 1) + "|"
    for row in rows:
        yield "| " + " | ".join(row) + " |"
