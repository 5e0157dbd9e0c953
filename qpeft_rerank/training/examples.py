"""Training questions with their passages, and the two file shapes they come in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.lines import is_text

# Passages kept per question and kind. DPR's files list up to hundreds, of which an epoch draws one or two.
MOST_KEPT = 50


@dataclass(frozen=True, slots=True)
class Example:
    """One training question.

    :param qid: its name, for messages.
    :param query: the question's text, as in the file.
    :param answers: strings that mark a passage as relevant; may be empty.
    :param positives: relevant passages, the best first; never empty.
    :param hard: passages that rank high and are not relevant; may be empty.
    :param plain: other passages that are not relevant, used where none of ``hard`` can be.
    :param where: its place in a file, for messages; empty where it is from none.
    :param unused: passages of the file that are in none of these, being past the :data:`MOST_KEPT`-th of their kind.
    """

    qid: str
    query: str
    answers: tuple[str, ...]
    positives: tuple[Passage, ...]
    hard: tuple[Passage, ...]
    plain: tuple[Passage, ...] = ()
    unused: int = 0
    where: str = field(default="", compare=False)

    def to_record(self) -> dict[str, Any]:
        """The example as a line of mined JSONL."""

        def texts(passages: Sequence[Passage]) -> list[dict[str, str]]:
            return [{"docid": p.docid, "title": p.title, "text": p.text} for p in passages]

        record: dict[str, Any] = {"qid": self.qid, "query": self.query}
        if self.answers:
            record["answers"] = list(self.answers)
        return record | {"positives": texts(self.positives), "negatives": texts(self.hard)}


def example_from_record(record: Any, number: int, where: str) -> Example | None:
    """Read one question of either shape; None if it has no positive passage.

    :param number: its place in the file, the id of a DPR question (those have none).
    :param where: ``file:line`` or ``file, entry N`` for messages.
    :raises InputError: for a record of neither shape, an empty question, a passage without text.
    """
    if not isinstance(record, dict):
        raise InputError(f"{where}: not a JSON object; write triples with python -m qpeft_rerank.mine")
    if "positives" in record:
        qid, query, keys = str(record.get("qid", number)), record.get("query"), ("positives", "negatives", "")
    elif "positive_ctxs" in record:
        qid, query = str(number), record.get("question")
        # DPR's files carry typographic apostrophes that topics files have as plain ones (method 3.1).
        query = query.replace("’", "'") if isinstance(query, str) else query
        keys = ("positive_ctxs", "hard_negative_ctxs", "negative_ctxs")
    else:
        raise InputError(
            f"{where}: neither 'positives' (mined triples) nor 'positive_ctxs' (DPR) in it; "
            "write triples with python -m qpeft_rerank.mine"
        )
    if not isinstance(query, str) or not query.strip():
        raise InputError(f"{where}: the question is empty; remove the entry or give its text")
    answers = record.get("answers") or []
    if not is_text(query):
        raise InputError(f"{where}: the question has half a surrogate pair; mend the escape")
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise InputError(f"{where}: 'answers' must be a list of strings")
    positives, hard, plain = (_passages(record, key, where) if key else () for key in keys)
    if not positives:
        return None
    unused = sum(max(0, len(record.get(key) or []) - MOST_KEPT) for key in keys if key)
    return Example(qid, query.strip(), tuple(answers), positives, hard, plain, unused, where)


def _passages(record: Mapping[str, Any], key: str, where: str) -> tuple[Passage, ...]:
    listed = record.get(key) or []
    if not isinstance(listed, list):
        raise InputError(f"{where}: {key!r} must be a list of passages")
    return tuple(_passage(item, f"{where}: {key}[{place}]") for place, item in enumerate(listed[:MOST_KEPT]))


def _passage(item: Any, where: str) -> Passage:
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise InputError(f"{where} has no text; each passage is an object with 'text', 'title' and 'docid'")
    title = item.get("title") or ""
    if not isinstance(title, str):
        raise InputError(f"{where}: 'title' is {type(title).__name__}; it must be a string")
    if not is_text(title + item["text"]):
        raise InputError(f"{where} has half a surrogate pair; mend the escape")
    docid = next((item[name] for name in ("docid", "passage_id", "psg_id") if item.get(name) is not None), "")
    return Passage(str(docid), title, item["text"])
