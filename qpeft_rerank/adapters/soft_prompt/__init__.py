"""Soft prompt: trainable vectors in place of the prompt piece, without hints (method 4.5)."""

from qpeft_rerank.adapters.registry import register
from qpeft_rerank.adapters.soft_prompt.config import SoftPromptConfig
from qpeft_rerank.adapters.soft_prompt.module import SoftPromptAdapter

register("QPEFT_SOFT_PROMPT", SoftPromptConfig, SoftPromptAdapter)

__all__ = ["SoftPromptAdapter", "SoftPromptConfig"]
