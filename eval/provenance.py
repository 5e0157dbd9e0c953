"""Where figures come from: the exact commands, what went in and came out by digest, and the versions."""

import platform
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from eval.chain import Chain
from eval.commands import typed
from eval.conditions import Condition
from eval.steps import Source, Step, ordered
from eval.store import Store
from qpeft_rerank import __version__

_PACKAGES = (
    "pyserini",
    "torch",
    "transformers",
    "peft",
    "numpy",
    "scipy",
    "pandas",
    "pytrec_eval-terrier",
)


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
        command = typed(step, store.work, words, record.get("threads") if step.operations else None)
        found.append(Ran(f"{step.kind} {step.label}", command, str(record.get("output")), record.get("seconds")))
    return found


def sources_of(steps: Iterable[Step]) -> dict[str, str]:
    """What steps took from outside, each with its digest; names that could not be looked into say so."""
    found = {word.text: word.digest for step in steps for word in step.words if isinstance(word, Source)}
    return {text: "by name" if digest.startswith("name ") else digest for text, digest in found.items()}


def versions() -> dict[str, str]:
    """Versions of what computes figures here."""
    found = {"qpeft_rerank": __version__, "Python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue  # another distribution of the same module, such as a build from source
    return found
