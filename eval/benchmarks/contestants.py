"""Who is measured, and with what settings."""

import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from qpeft_rerank.errors import InputError

#: Where adapters, and precisions, are measured: other lengths tell no more about them.
_SHORT = ("dl19", "trivia")
#: Where a passage is read for every pair, and where the plain scorer meets the rivals.
_ALONE = ("dl19", "long-passages", "long-queries", "dl19-topics")
_ALL = ("dl19", "trivia", "long-passages", "long-queries")
#: What is certified is a topic's ranking, so whole ones are scored.
_WHOLE = ("dl19-topics",)
_FIRST = 10
_SIZES = (2, 4, 8, 16)
_FEW_SIZES = (4, 16)


@dataclass(frozen=True, slots=True)
class Contestant:
    """One row of the table.

    :param name: what ``--rows`` calls it.
    :param label: what the table calls it.
    :param way: ``ours``, a re-stated ``loop``, a published ``package`` (T5), or ``llama`` (llama.cpp).
    :param settings: of ours: ``adapter``, ``dtype`` and what else :class:`qpeft_rerank.Reranker` takes.
    :param batches: batch sizes of which the fastest is taken.
    :param workloads: where it runs.
    :param shares: whether a passage may be read once for several topics.
    :param extra: measured only where its name is given.
    """

    name: str
    label: str
    way: Literal["ours", "loop", "package", "llama"]
    workloads: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    batches: tuple[int, ...] = ()
    shares: bool = False
    extra: bool = False

    @property
    def rival(self) -> bool:
        """Whether it is someone else's way."""
        return self.way != "ours"

    @property
    def foreign(self) -> bool:
        """Whether it runs under the Python that has the published packages."""
        return self.way in ("package", "llama")

    @property
    def adapter(self) -> str | None:
        """The adapter whose hints are in the prompt."""
        return self.settings.get("adapter")

    @property
    def dtype(self) -> str:
        """What it computes in."""
        return str(self.settings.get("dtype", "float32"))

    @property
    def same_task(self) -> bool:
        """Whether its scores are those of the language model in the table."""
        return self.way != "package"


def _ours(
    name: str, label: str, share: str, workloads: tuple[str, ...], extra: bool = False, **settings: Any
) -> Contestant:
    given = {"dtype": "float32", "share_passages": share, **settings}
    return Contestant(name, label, "ours", workloads, given, shares=share != "off", extra=extra)


CONTESTANTS = (
    Contestant("llm-qlm", "full logits, batch padded right (as llm-qlm)", "loop", _ALL, batches=_SIZES),
    Contestant("upr", "full logits, padded to the run's longest (as UPR)", "loop", _SHORT, batches=_SIZES),
    Contestant("one-by-one", "full logits, one pair at a time", "loop", _ALL, batches=(1,)),
    Contestant("llama.cpp", "llama.cpp, one pair at a time", "llama", _SHORT, batches=(1,)),
    Contestant("rerankers", "rerankers, UPR, random T5", "package", ("dl19",), batches=_FEW_SIZES),
    Contestant("llm-rankers", "llm-rankers, qlm, random T5", "package", ("dl19",), batches=_FEW_SIZES),
    _ours("plain", "qpeft_rerank, plain", "off", (*_ALL, *_WHOLE)),
    _ours("shared", "qpeft_rerank, passages shared", "auto", ("trivia",)),
    _ours("r-plain", "Q-PEFT-R, plain", "off", ("dl19",), adapter="qpeft-r"),
    _ours("r-shared", "Q-PEFT-R, passages shared", "auto", ("trivia",), adapter="qpeft-r"),
    _ours("a-plain", "Q-PEFT-A, plain", "off", ("dl19",), adapter="qpeft-a"),
    _ours("a-shared", "Q-PEFT-A, passages shared", "auto", ("trivia",), adapter="qpeft-a"),
    _ours("plain-bf16", "qpeft_rerank, plain, bfloat16", "off", ("dl19",), dtype="bfloat16"),
    _ours("shared-bf16", "qpeft_rerank, passages shared, bfloat16", "auto", ("trivia",), dtype="bfloat16"),
    _ours("plain-mixed", "qpeft_rerank, plain, mixed", "off", _ALONE, dtype="mixed"),
    _ours("shared-mixed", "qpeft_rerank, passages shared, mixed", "auto", ("trivia",), dtype="mixed"),
    _ours("r-mixed", "Q-PEFT-R, passages shared, mixed", "auto", _SHORT, adapter="qpeft-r", dtype="mixed"),
    _ours("a-mixed", "Q-PEFT-A, passages shared, mixed", "auto", _SHORT, adapter="qpeft-a", dtype="mixed"),
    _ours("certified", "qpeft_rerank, mixed, first 10 certified", "off", _WHOLE, dtype="mixed", certify=_FIRST),
    _ours("compiled", "qpeft_rerank, plain, layers compiled", "off", ("dl19",), extra=True, compile=True),
)


def choose(names: Iterable[str] | None) -> list[Contestant]:
    """The rows asked for, in the table's order; all but the extra ones when none are named.

    :raises InputError: for a row that there is not.
    """
    known = {row.name: row for row in CONTESTANTS}
    wanted = {row.name for row in CONTESTANTS if not row.extra} if names is None else set(names)
    if unknown := sorted(wanted - set(known)):
        raise InputError(f"--rows {unknown[0]}: there are {', '.join(known)}")
    # wait4, which tells a process's own time, is Unix's.
    if sys.platform == "win32":
        raise InputError("the speed benchmark needs Linux or macOS")
    return [row for row in CONTESTANTS if row.name in wanted]
