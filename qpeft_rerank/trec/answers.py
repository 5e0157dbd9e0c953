"""DPR's notion of relevance: a passage is relevant when an answer's tokens occur in its text."""

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.qrels import Qrels
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic

# The general rule below, for text in which nothing but ASCII occurs, at a third of its cost.
_ASCII_TOKENS = re.compile(r"[A-Za-z0-9]+|[!-/:-@\[-`{-~]")


@cache
def _general_tokens() -> Callable[[str], list[str]]:
    import regex  # the standard library's re knows no Unicode classes

    # A run of letters, numbers and marks, or one other character that is neither space nor control.
    general: Callable[[str], list[str]] = regex.compile(r"[\p{L}\p{N}\p{M}]+|[^\p{Z}\p{C}]").findall
    return general


@lru_cache(maxsize=1 << 13)
def _token_line(text: str) -> str:
    """Return the lower-cased tokens of ``text``, each between single spaces (``" a b "``).

    No token contains a space, so a token subsequence is a substring of this line. The cache serves
    passages that several topics retrieve, and holds no more of them than memory has room for, however long they are.
    """
    find = _ASCII_TOKENS.findall if text.isascii() else _general_tokens()
    tokens = find(unicodedata.normalize("NFD", text))
    # Lower-casing the joined line equals lower-casing each token: the spaces bound Greek final sigma.
    return f" {' '.join(tokens)} ".lower()


class AnswerMatcher:
    """The answers of one question, prepared for many passages.

    ``regex=True`` reads each answer as a regular expression (CuratedTREC); one that does not compile
    matches nothing, as in DPR.

    One difference from DPR: an answer without any token (empty, or only spaces) matches nothing,
    where DPR's loop lets it match every passage.
    """

    def __init__(self, answers: Sequence[str], regex: bool = False) -> None:
        if isinstance(answers, str):
            raise TypeError("answers is one string; give a sequence of strings")
        self._lines: list[str] = []
        self._patterns: list[re.Pattern[str]] = []
        if regex:
            self._patterns = [pattern for pattern in map(_pattern, answers) if pattern is not None]
        else:
            self._lines = [line for line in map(_token_line, answers) if line.strip()]

    def matches(self, text: str) -> bool:
        """Tell whether an answer occurs in ``text`` (a passage without its title)."""
        if self._patterns:
            normal = unicodedata.normalize("NFD", text)
            return any(pattern.search(normal) for pattern in self._patterns)
        if not self._lines:
            return False
        line = _token_line(text)
        return any(answer in line for answer in self._lines)


def qrels_from_answers(
    topics: Mapping[str, Topic],
    run: Mapping[str, Iterable[Hit]],
    texts: Mapping[str, str],
    regex: bool = False,
) -> Qrels:
    """Judge every retrieved passage that has a text, as DPR does: grade 1 or 0.

    ``texts`` maps docid to passage text without title. Every topic of ``topics`` is in the result,
    with no judgements when the run lacks it, so that an average over the qrels is one over all
    questions. Topics of the run that are not in ``topics`` are left out. :class:`InputError` for a
    topic without answers.
    """
    qrels: Qrels = {}
    for topic in topics.values():
        if not topic.answers:
            raise InputError(f"topic {topic.id} has no answers; add them to the topics file")
        matcher = AnswerMatcher(topic.answers, regex)
        docids = [hit.docid for hit in run.get(topic.id, ()) if hit.docid in texts]
        qrels[topic.id] = {docid: int(matcher.matches(texts[docid])) for docid in docids}
    return qrels


def _pattern(answer: str) -> re.Pattern[str] | None:
    try:
        return re.compile(unicodedata.normalize("NFD", answer), re.IGNORECASE | re.MULTILINE)
    except (re.error, OverflowError, RecursionError):
        return None
