"""Rerank TREC runs by a causal language model's query likelihood, with Q-PEFT (arXiv 2404.04522)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qpeft_rerank.collection.jsonl import CorpusFile
    from qpeft_rerank.collection.lucene import open_index
    from qpeft_rerank.collection.passages import Passage
    from qpeft_rerank.errors import InputError
    from qpeft_rerank.likelihood.scores import Score
    from qpeft_rerank.reranker import Ranked, Reranker
    from qpeft_rerank.trec.runs import Hit, read_run, write_run
    from qpeft_rerank.trec.topics import Topic, read_topics

__version__ = "0.1.0"

_HOMES = {
    "CorpusFile": "qpeft_rerank.collection.jsonl",
    "Hit": "qpeft_rerank.trec.runs",
    "InputError": "qpeft_rerank.errors",
    "Passage": "qpeft_rerank.collection.passages",
    "Ranked": "qpeft_rerank.reranker",
    "Reranker": "qpeft_rerank.reranker",
    "Score": "qpeft_rerank.likelihood.scores",
    "Topic": "qpeft_rerank.trec.topics",
    "open_index": "qpeft_rerank.collection.lucene",
    "read_run": "qpeft_rerank.trec.runs",
    "read_topics": "qpeft_rerank.trec.topics",
    "write_run": "qpeft_rerank.trec.runs",
}
__all__ = [
    "CorpusFile",
    "Hit",
    "InputError",
    "Passage",
    "Ranked",
    "Reranker",
    "Score",
    "Topic",
    "__version__",
    "open_index",
    "read_run",
    "read_topics",
    "write_run",
]


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `--help` and the TREC tools do without it.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    # Of these help() and notebooks know what the module holds.
    return sorted({*globals(), *__all__})
