"""Names of prebuilt indexes and topics: aliases, defaults, spellings, near misses."""

import os
from collections.abc import Iterable
from difflib import get_close_matches

from qpeft_rerank.errors import InputError

# Names that papers use and that some Pyserini versions do not know (0.22-0.35) or know under another name.
ALIASES = {
    "msmarco-passage": "msmarco-v1-passage",
    "msmarco-passage-slim": "msmarco-v1-passage-slim",
    "msmarco-doc": "msmarco-v1-doc",
    "wikipedia-dpr": "wikipedia-dpr-100w",
    "wikipedia-dpr-slim": "wikipedia-dpr-100w-slim",
}

DEFAULT_TOPICS = {"msmarco-v1-passage": "dl19-passage", "wikipedia-dpr-100w": "dpr-nq-test"}

DEFAULT_BM25 = (0.9, 0.4)

# What Pyserini's command line sets by itself, by the name given to --index: (k1, b).
_TUNED = {
    (0.82, 0.68): (
        "msmarco-v1-passage",
        "msmarco-v1-passage-slim",
        "msmarco-v1-passage-full",
        "msmarco-passage",
    ),
    (2.18, 0.86): (
        "msmarco-v1-passage.d2q-t5",
        "msmarco-v1-passage.d2q-t5-docvectors",
        "msmarco-v1-passage-d2q-t5",
    ),
    (4.46, 0.82): ("msmarco-v1-doc", "msmarco-v1-doc-slim", "msmarco-v1-doc-full"),
    (2.16, 0.61): (
        "msmarco-v1-doc-segmented",
        "msmarco-v1-doc-segmented-slim",
        "msmarco-v1-doc-segmented-full",
    ),
    (4.68, 0.87): ("msmarco-v1-doc.d2q-t5", "msmarco-v1-doc.d2q-t5-docvectors"),
    (2.56, 0.59): ("msmarco-v1-doc-segmented.d2q-t5", "msmarco-v1-doc-segmented.d2q-t5-docvectors"),
}
_BM25 = {name: values for values, names in _TUNED.items() for name in names}

# Collections with an index for each language, which ends in its code; in queries, too, words are of that language.
_IN_LANGUAGES = ("miracl-v1.0", "mrtydi-v1.1", "ciral-v1.0", "hc4-v1.0", "neuclir22")
_LANGUAGES = {
    "arabic": "ar",
    "bengali": "bn",
    "english": "en",
    "finnish": "fi",
    "indonesian": "id",
    "japanese": "ja",
    "korean": "ko",
    "russian": "ru",
    "swahili": "sw",
    "telugu": "te",
    "thai": "th",
}


#: What Lucene may search an index in; of the last four it divides words alone.
LANGUAGES = tuple("ar bn da de en es fa fi fr hi hu id it ja ko nl no pl pt ru sv te th tr uk zh ha so sw yo".split())


def canonical_index_name(name: str) -> str:
    """Return today's name of a prebuilt index; a folder, ``embedded`` or another name comes back as it is."""
    return name if os.path.exists(name) else ALIASES.get(name, name)


def default_topics(index: str) -> str | None:
    """Return the topics an index is searched with when none are named, or ``None``.

    A ``-slim`` or ``-full`` variant holds the same passages and takes the same topics.
    """
    name = canonical_index_name(index).removesuffix("-slim").removesuffix("-full")
    return "embedded" if name == "embedded" else DEFAULT_TOPICS.get(name)


def bm25_parameters(index: str) -> tuple[float, float]:
    """Return the (k1, b) that Pyserini's command line uses for ``--index`` with this spelling."""
    return _BM25.get(canonical_index_name(index), DEFAULT_BM25)


def query_language(index: str) -> str:
    """Return the code of the language in which a prebuilt index is searched, as Pyserini's ``--language`` has it."""
    collection, _, last = index.rpartition("-")
    return _LANGUAGES.get(last, last) if collection in _IN_LANGUAGES else "en"


def check_language(code: str) -> None:
    """Refuse a language of which Pyserini has no analyzer: it would search in English without a word of it."""
    if code not in LANGUAGES:
        raise InputError(
            f"language {code}: Pyserini has no analyzer for it; give one of {', '.join(sorted(LANGUAGES))}"
        )


def same_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that is ``name`` up to dots and hyphens, which changed in 2026; an exact match first."""
    known = list(known)
    if name in known:
        return name
    flat = name.replace(".", "-")
    return next((other for other in known if other.replace(".", "-") == flat), None)


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean a, b?`` for the nearest known names, or nothing."""
    known = sorted(set(known))
    # Of dl20, dl20-passage is no nearer than dl20-doc, which is other passages.
    longer = sorted((other for other in known if other.startswith(name)), key=len)
    near = list(dict.fromkeys([*longer, *get_close_matches(name, known, n=3, cutoff=0.6)]))[:3]
    return f"; did you mean {', '.join(near)}?" if near else ""
