"""Learning rates: where they start, and how they move over the optimizer steps.

**Where they start.** AdamW moves every number by about the learning rate in a step, whatever the
gradient's size. So what a rate means depends on what it is compared with, and that differs by model:

- a vector that lives among the embeddings (E', prompt vectors) has numbers of the size of the
  embeddings' root mean square r, as layers are given them (0.14 for SmolLM2, 0.02 for Llama-2): its rate
  is ``r / 100``, one per cent of it a step;
- the output of a d x d layer sums d such moves: with inputs of the same size as its outputs, a step
  moves it by up to ``rate * d`` of its own size. Its rate is ``1 / (2 d)``, 9e-4 for d = 576 and
  1.2e-4 for d = 4096, which for LoRA, too, is where published rates lie.

**How they move.** A linear warm-up, then constant or linearly down to zero. The horizon counts
optimizer steps (the authors count batches and are at zero in the second epoch, method D4).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from qpeft_rerank.adapters.base import Role

Decay = Literal["linear", "constant"]
# Rows of the table, from its beginning to its end, of which it is asked whether the layer scales them.
_ROWS = 1024


@dataclass(frozen=True, slots=True)
class Schedule:
    """The factor on all learning rates.

    :param steps: optimizer steps of the whole training.
    :param warmup: share of them in which the factor rises from near 0 to 1.
    :param decay: ``linear`` falls to 0 at the end, ``constant`` stays.
    """

    steps: int
    warmup: float = 0.1
    decay: Decay = "linear"

    def factor(self, step: int) -> float:
        """The factor for optimizer step ``step``, from 0."""
        rising = int(self.steps * self.warmup)
        if step < rising:
            return (step + 1) / (rising + 1)
        if self.decay == "constant":
            return 1.0
        return max(0.0, (self.steps - step) / max(1, self.steps - rising))


def learning_rates(embedding: nn.Embedding, fixed: float | None = None) -> dict[Role, float]:
    """The rate of each role of parameter for a model with this layer of embeddings, a table ``[V, d]``.

    :param fixed: one rate for everything, as the user or the authors set it.
    """
    if fixed is not None:
        return {"embedding": fixed, "matrix": fixed}
    return {"embedding": _size(embedding) / 100, "matrix": 0.5 / embedding.weight.shape[1]}


@torch.no_grad()
def _size(embedding: nn.Embedding) -> float:
    """The root mean square of embeddings as the layer gives them: Gemma's is its table's times the root of d."""
    table = embedding.weight.detach()
    some = torch.linspace(0, len(table) - 1, min(_ROWS, len(table)), device=table.device).long()
    own, given = _rms(table[some]), _rms(embedding(some))
    # A layer that does not scale gives the very rows, and so a factor of exactly 1.
    return _rms(table) * (given / own if own else 1.0)


def _rms(numbers: Tensor) -> float:
    return numbers.float().pow(2).mean().sqrt().item()
