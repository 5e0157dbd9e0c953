"""Q-PEFT-R: hints are tokens retrieved from the passage by similarity to the query (method 4.2)."""

from qpeft_rerank.adapters.qpeft_r.config import QPeftRConfig
from qpeft_rerank.adapters.qpeft_r.module import QPeftR
from qpeft_rerank.adapters.registry import register

register("QPEFT_R", QPeftRConfig, QPeftR)

__all__ = ["QPeftR", "QPeftRConfig"]
