"""Lists of answers that are written as a string, in JSON or as Python prints them."""

import ast
import re
import warnings
from typing import Any

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import parse_json

# An item in single quotes, or a bare one up to a comma that follows text directly.
_LOST_QUOTES = re.compile(r"(?:'([^'\\]+)'|(.+?))(?:(?<=\S), |$)")


def parse_answers(text: str) -> tuple[str, ...]:
    """Return the answers that a string holds: a JSON or Python list of them, else the string itself.

    Pyserini gives the answers of DPR's topics as such strings. Copies of NQ are about in which the
    list's double quotes were lost (``['Kathy Bates', Annie O'Donnell]``); those are read too.
    :class:`InputError` (without a file name, which the caller knows) for a list that cannot be read.
    Nothing is evaluated.
    """
    text = text.strip()
    if not text:
        return ()
    if not text.startswith("["):
        return (text,)
    try:
        # Where a text is both JSON and Python the two agree, but for JSON's escapes (\/, surrogates).
        value = parse_json(text)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # '\d' in a regular expression is no concern of the user's
                value = ast.literal_eval(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            found = _without_double_quotes(text)
            if found:
                return found
            raise InputError(f"answers {short(text)} are no list of strings; write a JSON list") from None
    return strings(value)


def _without_double_quotes(text: str) -> tuple[str, ...]:
    """Return the items of a printed Python list that lost its double quotes; nothing if it is no such.

    Python prints an item in double quotes only if it holds an apostrophe, so every bare item must hold
    one; a comma inside these tokenised texts has a space before it, one between items has not.
    """
    if '"' in text or not text.endswith("]"):
        return ()
    items: list[str] = []
    for quoted, bare in _LOST_QUOTES.findall(text[1:-1]):
        if bare and "'" not in bare:
            return ()
        items.append(quoted or bare)
    return tuple(items)


def strings(value: Any) -> tuple[str, ...]:
    """The strings of a list; numbers become strings. :class:`InputError` for anything else."""
    if not isinstance(value, list | tuple):
        raise InputError(f"answers {short(value)} are no list of strings; write a JSON list")
    for item in value:
        if isinstance(item, bool) or not isinstance(item, str | int | float):
            raise InputError(f"answer {short(item)} is no string; write a JSON list of strings")
    return tuple(str(item) for item in value)


def short(value: Any) -> str:
    """A value as messages show it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."
