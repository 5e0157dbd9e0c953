"""Text out of the mark-up that collections are stored in: SGML of TREC's newswire, HTML, pieces of it in JSON."""

import re
from html import unescape

# What stands for nothing that is read.
_UNSEEN = re.compile(r"<!--.*?-->|<(script|style)\b[^<>]*>.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
# Of these, words go on behind the tag.
_INLINE = re.compile(r"</?(?:a|abbr|b|em|font|i|small|span|strong|sub|sup|u)(?:\s[^<>]*)?>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-z][^<>]*>|<[!?][^<>]*>", re.IGNORECASE)
_MARKED_UP = re.compile(r"\s*(?:</?[a-z][^<>]*>|<[!?])", re.IGNORECASE)
# AP has its headlines in HEAD, in which HTML has TITLE.
_TITLES = tuple(
    re.compile(rf"<{name}(?:\s[^<>]*)?>(.*?)</{name}\s*>", re.IGNORECASE | re.DOTALL)
    for name in ("headline", "hl", "title", "ttl", "head")
)
# In capitals, as newswire has them. What else is in a document says when, where and by whom it was printed.
_TEXTS = re.compile(r"<(TEXT|LP|LEADPARA)>(.*?)</\1>", re.DOTALL)
_ABOUT = re.compile(r"<(DOCNO|DOCID|DOCHDR|DATE|DD)>.*?</\1>", re.DOTALL)


def is_marked_up(raw: str) -> bool:
    """Whether a text begins with a tag, and has an end of one."""
    return _MARKED_UP.match(raw) is not None and "</" in raw


def title_and_text(raw: str) -> tuple[str, str]:
    """The title and the text of a document in SGML or HTML, without tags, on one line each.

    The title is the first ``HEADLINE``, ``HL``, ``TITLE``, ``TTL`` or ``HEAD``, in this order of preference. The text is
    what is in ``TEXT``, ``LP`` and ``LEADPARA``; without any, all but the title, ids and dates.
    """
    raw = _UNSEEN.sub(" ", raw)
    title = ""
    for pattern in _TITLES:
        if found := pattern.search(raw):
            title, raw = plain(found[1]), f"{raw[: found.start()]} {raw[found.end() :]}"
            break
    texts = [found[2] for found in _TEXTS.finditer(raw)]
    return title, plain(" ".join(texts) if texts else _ABOUT.sub(" ", raw))


def plain(text: str) -> str:
    """A text without tags, entities and breaks of lines."""
    return " ".join(unescape(_TAG.sub(" ", _INLINE.sub("", text))).split())
