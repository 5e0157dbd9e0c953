"""Whether a model takes the virtual tokens of PEFT's prompts, or their keys and values, and heeds them; a few tokens tell."""

from typing import Any

import torch
from torch import nn

from qpeft_rerank.errors import REFUSALS, InputError, first_line
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.seeds import shaken
from qpeft_rerank.prompt.segments import Segment, Sequence

# A row, and a shorter one with its padding.
_ROWS = [
    Sequence((Segment("passage", (5, 6)), Segment("target", (7,)))),
    Sequence((Segment("passage", (7,)), Segment("target", (6,)))),
]


@torch.no_grad()
def refuse_virtual(model: LanguageModel, adapter: Any, encoder: nn.Module, name: str) -> None:
    """Raise :class:`InputError` where a model's scores cannot be computed with a prompt, or do not depend on it.

    Vectors may be of another width than the model's embeddings. Models with recurrent layers keep other states than keys
    and values: some refuse these, others go on without.

    :param adapter: a :class:`~qpeft_rerank.adapters.peft_bridge.PeftAdapter` of prompt learning, in evaluation.
    :param encoder: what makes its vectors; as it was afterwards.
    """
    try:
        found = model.target_log_probs(_ROWS, adapter)
        with shaken(encoder.parameters(), 1.0):
            changed = model.target_log_probs(_ROWS, adapter)
    except REFUSALS as error:
        pass_on_faults(error)
        raise InputError(
            f"adapter {name}: {adapter.kind} cannot be computed on {model.source.name}: {first_line(error)}"
        ) from None
    if torch.equal(found, changed):
        raise InputError(
            f"adapter {name}: {adapter.kind} changes no score of {model.source.name}, whose layers keep no keys and "
            "values; take another adapter"
        )
