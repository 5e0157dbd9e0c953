"""Where figures come from: the exact commands, what went in and came out by digest, and the versions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from eval.chain import Chain
from eval.commands import typed
from eval.conditions import Condition
from eval.steps import SCORING, Source, Step, ordered
from eval.store import Store
from eval.versions import versions


@dataclass(frozen=True)
class Ran:
    """A step that ran.

    :param output: SHA-256 of what it made; ``seconds``: None if it was not one whole run.
    """

    name: str
    command: str
    output: str
    seconds: float | None


def steps_of(conditions: Iterable[Condition], chain: Chain) -> list[Step]:
    """All steps behind conditions, needed ones first, each once."""
    return ordered(chain.evaluation(condition) for condition in conditions)


def ran(steps: Sequence[Step], store: Store) -> list[Ran]:
    """What the store recorded of steps."""
    found = []
    for step in steps:
        record = store.record(step)
        # As it ran: the present call may ask for another device or batch size.
        words = record.get("command") or ["python", *step.command(store.work)]
        command = typed(step, store.work, words, record.get("threads") if step.module in SCORING else None)
        found.append(Ran(f"{step.kind} {step.label}", command, str(record.get("output")), record.get("seconds")))
    return found


def sources_of(steps: Iterable[Step]) -> dict[str, str]:
    """What steps took from outside, each with its digest; names that could not be looked into say so."""
    found = {word.text: word.digest for step in steps for word in step.words if isinstance(word, Source)}
    return {text: "by name" if digest.startswith("name ") else digest for text, digest in found.items()}


def versions_of(steps: Sequence[Step], store: Store) -> list[tuple[str, dict[str, str] | None]]:
    """The versions behind figures, each after what a line says they are of; None where records do not tell.

    One line where all steps agree with each other, and with this process, which computes what follows from them.
    """
    here, ran_by = versions(), [store.record(step).get("versions", []) for step in steps]
    if all(found == [here] for found in ran_by):
        return [("Versions", here)]
    distinct: list[dict[str, str]] = []
    for one in (one for found in ran_by for one in found):
        if one not in distinct:
            distinct.append(one)
    lines: list[tuple[str, dict[str, str] | None]] = []
    for one in distinct:
        lines.append((f"Versions of {sum(one in found for found in ran_by)} of {len(steps)} steps", one))
    if untold := ran_by.count([]):
        lines.append((f"Versions of {untold} of {len(steps)} steps", None))
    return lines if here in distinct else [*lines, ("Versions where this was written", here)]
