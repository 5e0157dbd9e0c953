"""Whether an adapter inside layers computes what PEFT does, and nothing while it is off; a few tokens tell."""

from typing import Any

import torch
from torch import Tensor

from qpeft_rerank.errors import REFUSALS, InputError, first_line
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.linears import plain_products

# A long row, and a shorter one with its padding.
_IDS = [[5, 6, 7, 8, 9], [7, 6, 5, 0, 0]]
_SHORT = 3
# Most by which a logit may differ, as a share of the largest. What is compared is computed by the same operations on the
# same shapes, so it rounds alike in every dtype.
_GAP = 1e-3


class PeftCheck:
    """What a model says of a few tokens before PEFT puts an adapter on it."""

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._ids = torch.tensor(_IDS, device=model.device)
        self._alone = self._logits(input_ids=self._ids)

    def _logits(self, tuned: Any = None, **inputs: Any) -> Tensor:
        """By PEFT, or as scoring computes them: past the outermost forward where the head is plain."""
        model = self._model
        with plain_products(model.model), torch.no_grad():
            if tuned is None and model.plain_head:
                return model.head(model.model.base_model(**inputs, use_cache=False).last_hidden_state)
            logits: Tensor = (tuned or model.model)(**inputs, use_cache=False).logits
            return logits

    def refuse(self, adapter: Any, tuned: Any, name: str) -> None:
        """Raise :class:`InputError` for an adapter that scores otherwise than in PEFT, or damages the model.

        :param adapter: a :class:`~qpeft_rerank.adapters.peft_bridge.PeftAdapter`, in evaluation.
        :param tuned: its ``peft.PeftModel``.
        """
        model, ids = self._model, self._ids
        try:
            with adapter.around(len(ids)), torch.no_grad():
                # As a batch is read: by a body from embeddings, else by the model itself from ids.
                given = {"input_ids": ids}
                if adapter.body is not None:
                    given = {"inputs_embeds": adapter([], ids, model.embedding(ids))}
                here = self._logits(**given)
                if not _alike(here, self._logits(tuned, input_ids=ids)):
                    raise InputError(
                        f"adapter {name}: {adapter.kind} scores otherwise here than in peft, so it is not supported"
                    )
                # Products round by a batch's shape, too much in narrower dtypes for this to be told.
                if model.dtype == torch.float32:
                    apart = self._logits(**{name: some[1:, :_SHORT] for name, some in given.items()})
                    if not _alike(apart, here[1:, :_SHORT]):
                        raise InputError(f"adapter {name}: {adapter.kind} scores a text by what else is in its batch")
            if not _alike(self._logits(input_ids=ids), self._alone):
                raise InputError(
                    f"adapter {name}: {adapter.kind}, as it is set, changes the model's own layers for good"
                )
        except REFUSALS as error:
            pass_on_faults(error)
            raise InputError(
                f"adapter {name} cannot be computed on {model.source.name} in {model.precision}: {first_line(error)}"
            ) from None


def _alike(found: Tensor, expected: Tensor) -> bool:
    largest = float(expected.nan_to_num().abs().max())
    return torch.allclose(found, expected, rtol=0, atol=_GAP * largest, equal_nan=True)
