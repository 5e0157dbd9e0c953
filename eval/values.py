"""What the evaluate steps measured, topic by topic, in the two conventions of the authors."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from qpeft_rerank.errors import InputError

if TYPE_CHECKING:
    import numpy

Convention = Literal["clean", "full"]
CONVENTIONS: tuple[Convention, ...] = ("clean", "full")


@dataclass(frozen=True)
class Values:
    """Measures by topic, fractions from 0 to 1.

    :param topics: all topics of the set or sample, in order.
    :param answered: those of them with a relevant passage: among the candidates where answers decide, for only they
        are judged then; anywhere where a set brings judgements.
    """

    per_topic: Mapping[str, Mapping[str, float]]
    topics: tuple[str, ...]
    answered: frozenset[str]

    def array(self, measure: str, convention: Convention) -> "numpy.ndarray":
        """``[topics]`` values. ``clean`` leaves out topics that are not :attr:`answered`, ``full`` counts them 0."""
        import numpy

        kept = [topic for topic in self.topics if convention == "full" or topic in self.answered]
        return numpy.array([self.per_topic[measure][topic] for topic in kept])


def read_values(path: Path, answered: frozenset[str]) -> Values:
    """Read the output of ``qpeft_rerank.evaluate --per-topic --format json`` for one run."""
    try:
        record = json.loads(path.read_text("utf-8"))["runs"][0]
        per_topic = record["per_topic"]
        topics = tuple(next(iter(per_topic.values())))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        raise InputError(f"{path}: not the measures of a run; delete it and give the command again") from None
    return Values(per_topic, topics, frozenset(topics) & answered)


def answered_topics(path: Path) -> frozenset[str]:
    """Topics with a relevant passage in a qrels file."""
    from qpeft_rerank.trec.qrels import read_qrels

    return frozenset(topic for topic, grades in read_qrels(str(path)).items() if any(g > 0 for g in grades.values()))
