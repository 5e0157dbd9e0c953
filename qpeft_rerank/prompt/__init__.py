"""Prompts: templates, and the token segments they become for any tokenizer."""

from qpeft_rerank.prompt.builder import EncodedPassage, EncodedQuery, PromptBuilder
from qpeft_rerank.prompt.pieces import Pieces
from qpeft_rerank.prompt.segments import Segment, Sequence
from qpeft_rerank.prompt.templates import Template, load_template, named_templates

__all__ = [
    "EncodedPassage",
    "EncodedQuery",
    "Pieces",
    "PromptBuilder",
    "Segment",
    "Sequence",
    "Template",
    "load_template",
    "named_templates",
]
