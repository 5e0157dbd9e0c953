"""The soft prompt as an adapter of its own."""

from collections.abc import Sequence as ListLike

from torch import Tensor

from qpeft_rerank.adapters.base import Adapter, SoftPrompt, prompt_start
from qpeft_rerank.adapters.embeddings import FrozenTable
from qpeft_rerank.adapters.soft_prompt.config import SoftPromptConfig
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import Template


class SoftPromptAdapter(Adapter[SoftPromptConfig]):
    """Trainable vectors at the prompt piece; no hint block."""

    def __init__(self, config: SoftPromptConfig, model: CausalModel, template: Template) -> None:
        super().__init__(config, model, template)
        start = prompt_start(config, self.fixed, FrozenTable(model.embedding))
        self.soft = SoftPrompt(start, config.layers)

    def hint_tokens(self, query: ListLike[int], passage: ListLike[int]) -> None:
        """No hint block."""
        return None

    def forward(self, sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
        """Replace the prompt piece's vectors: ``[batch, tokens, d]`` in and out."""
        return self.soft(sequences, ids, embedded)
