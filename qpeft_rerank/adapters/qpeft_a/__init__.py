"""Q-PEFT-A: hints are what each query token attends to in the passage (method 4.3)."""

from qpeft_rerank.adapters.qpeft_a.config import QPeftAConfig
from qpeft_rerank.adapters.qpeft_a.module import QPeftA
from qpeft_rerank.adapters.registry import register

register("QPEFT_A", QPeftAConfig, QPeftA)

__all__ = ["QPeftA", "QPeftAConfig"]
