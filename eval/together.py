"""Rerankers of the same candidates, scored in one reading of the passages before each writes its own run.

One ``rerank --compare`` fills a journal. Copied beside a reranker's output, it holds all that the reranker's own
command will look for, and that command does the rest: steps, keys and runs are those of rerankers run alone, up to
rounding. A journal is keyed by content, so one that is out of date costs time, and changes nothing.
"""

import shutil
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from eval.steps import OUTPUT, Source, Step
from eval.store import Store
from qpeft_rerank.errors import InputError

_WAYS = ("--prompt", "--adapter")


def later(steps: Iterable[Step]) -> list[Step]:
    """Steps in an order in which all that is reranked together is ready: rerank and evaluate last."""
    return sorted(steps, key=is_late)


def is_late(step: Step) -> bool:
    """Tell whether a step reranks, or follows from what was reranked."""
    return step.kind in ("rerank", "evaluate")


def groups(steps: Iterable[Step], store: Store) -> list[list[Step]]:
    """Rerank steps that are to do, not begun, and may be scored together; two or more each."""
    found: dict[str, list[Step]] = {}
    for step in steps:
        if step.kind == "rerank" and step.joins and not store.is_done(step) and not is_scored(step, store.work):
            rest, _ = _split(step)
            found.setdefault(Step("", "", step.module, rest, "").key, []).append(step)
    return [members for members in found.values() if len(members) > 1]


def is_scored(step: Step, work: Path) -> bool:
    """Tell whether a step that reranks has scores already, some at least: its own or a group's."""
    return step.kind == "rerank" and _journal(step, work).exists()


def joint(members: Sequence[Step], work: Path) -> Step:
    """The one command of a group. It names each adapter by a link, as their folders all have one name."""
    members = sorted(members, key=lambda step: _split(step)[1][0] == "--adapter")  # the model alone leads
    rest, first = _split(members[0])
    compared = [_named(member, work) for member in members[1:]]
    way = first if first[0] == "--prompt" else ("--adapter", _named(members[0], work))
    words = (*rest[:-2], *way, "--compare", *compared, "--output", OUTPUT)
    label = f"{len(members)} rerankers of {members[0].label.rpartition('.')[0]}"
    return Step("joint", label, members[0].module, words, "run.trec", running=members[0].running)


def fill(members: Sequence[Step], store: Store, call: Callable[[Step], object]) -> None:
    """Score a group, and give each of it the journal.

    :param call: runs a step's command; the same command goes on after a stop.
    """
    step = joint(members, store.work)
    place, journal = step.place(store.work), _journal(step, store.work)
    place.parent.mkdir(parents=True, exist_ok=True)
    if not (place.is_file() and journal.is_file()):
        place.unlink(missing_ok=True)
        call(step)
    try:
        for member in members:
            copy = _journal(member, store.work)
            copy.parent.mkdir(parents=True, exist_ok=True)
            fresh = copy.with_name(f".{copy.name}.part")
            shutil.copyfile(journal, fresh)
            fresh.replace(copy)
    except OSError as error:
        raise InputError(f"{store.work}: cannot be written ({error.strerror}); choose another --work") from None


def _journal(step: Step, work: Path) -> Path:
    place = step.place(work)
    return place.with_name(f"{place.name}.journal")


def _split(step: Step) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """A rerank step's words without, and with only, what tells it from others of its candidates."""
    at = next(place for place, word in enumerate(step.words) if isinstance(word, str) and word in _WAYS)
    return (*step.words[:at], *step.words[at + 2 :]), step.words[at : at + 2]


def _named(member: Step, work: Path) -> Source:
    adapter = _split(member)[1][1]
    if not isinstance(adapter, Step):
        assert isinstance(adapter, Source)
        return adapter
    link = work / "joint" / f"{member.label.rpartition('.')[2]}-{adapter.key[:8]}"
    link.parent.mkdir(parents=True, exist_ok=True)
    fresh = link.with_name(f".{link.name}.{threading.get_ident()}")  # two data sets may take the same adapter
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(adapter.place(work).resolve())
    fresh.replace(link)
    return Source(str(link), adapter.key)
