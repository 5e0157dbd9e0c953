"""Topics: the questions of a run, from every file format that the field uses."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.lines import ZERO_BYTE, display_name, is_text, read_lines
from qpeft_rerank.trec.topic_formats import FormatError, choose


@dataclass(frozen=True, slots=True)
class Topic:
    """A question: its id (always a string), its text, and its answers where the file has them."""

    id: str
    text: str
    answers: tuple[str, ...] = ()


def read_topics(path: str | os.PathLike[str]) -> dict[str, Topic]:
    """Read topics in file order (``.gz``; ``-`` = stdin).

    Formats, told apart by content and name: ``id<TAB>text``; JSON lines with an id
    (``id|qid|_id|query_id``, and the like), a text (``question|query|text|title``) and perhaps ``answers|answer``;
    a JSON list of such, or an object from id to text or to such; classic TREC ``<top>``; DPR's
    ``question<TAB>['answer', …]`` and ``{"question", "answer"}``, whose ids are positions from 0.

    :class:`InputError` with file and line for an empty query, an id twice, an id with white space
    (a run could not hold it), broken JSON and a file without topics.
    """
    path = os.fspath(path)
    name = display_name(path)
    lines = [(number, line) for number, line in read_lines(path) if line.strip()]
    if not lines:
        raise InputError(f"{name}:1: no topics; expected id<TAB>query, one a line")
    topics: dict[str, Topic] = {}
    places: dict[str, int] = {}
    by_position: bool | None = None
    try:
        for position, record in enumerate(choose(path, lines)(lines)):
            if by_position is None:
                by_position = record.id is None
            if (record.id is None) != by_position:
                raise FormatError(record.line, "only some topics have an id; give one to all or to none")
            id_ = str(position) if record.id is None else record.id.strip()
            text = record.text.strip()
            topic = Topic(id_, text, record.answers)
            if fault := topic_fault(topic):
                raise FormatError(record.line, fault)
            if id_ in topics:
                raise FormatError(record.line, f"topic {id_} is already on line {places[id_]}; remove one")
            topics[id_] = topic
            places[id_] = record.line
    except FormatError as error:
        line, what = error.args
        raise InputError(f"{name}:{line}: {what}") from None
    if not topics:
        raise InputError(f"{name}:{lines[0][0]}: no topics, only what is around them; add some")
    return topics


def topic_fault(topic: Topic) -> str | None:
    """Why what was read is no topic that a run could hold and a model could be asked; None if it is one."""
    if topic.id.split() != [topic.id]:
        return f"topic id {topic.id!r} is empty or has white space; rename it"
    if "\0" in topic.id:
        return f"topic id {topic.id!r} has {ZERO_BYTE}"
    if not topic.text:
        return f"empty query for topic {topic.id}; write its text or remove it"
    if not is_text("".join((topic.id, topic.text, *topic.answers))):
        return f"topic {topic.id!r} has half a surrogate pair; mend the escape"
    return None


def check_topics(topics: Mapping[str, Topic]) -> None:
    """Refuse what Python code gives as topics and is none: ids that are numbers would join with no run's.

    :raises InputError: saying what to give.
    """
    if not isinstance(topics, Mapping):
        raise InputError(f"topics: is {type(topics).__name__}; give a mapping from topics")
    for key, one in topics.items():
        if not isinstance(key, str):
            raise InputError(f"topics, {key!r}: its id is {type(key).__name__}; give a string")
        if not isinstance(one, Topic):
            raise InputError(f"topics, {key!r}: is {type(one).__name__}; give Topic(id, text)")
        if not isinstance(one.text, str):
            raise InputError(f"topics, {key!r}: its text is {type(one.text).__name__}; give a string")
