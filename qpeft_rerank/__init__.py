"""Rerank TREC runs by a causal language model's query likelihood, with Q-PEFT (arXiv 2404.04522)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qpeft_rerank.collection.passages import Passage
    from qpeft_rerank.likelihood.scores import Score
    from qpeft_rerank.reranker import Ranked, Reranker

__version__ = "0.1.0"
__all__ = ["Passage", "Ranked", "Reranker", "Score", "__version__"]

_HOMES = {
    "Passage": "qpeft_rerank.collection.passages",
    "Ranked": "qpeft_rerank.reranker",
    "Reranker": "qpeft_rerank.reranker",
    "Score": "qpeft_rerank.likelihood.scores",
}


def __getattr__(name: str) -> Any:
    # torch takes seconds to import; `--help` and the TREC tools do without it.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
