"""Options of Q-PEFT-A."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from qpeft_rerank.adapters.hints import FAITHFUL, HintConfig
from qpeft_rerank.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class QPeftAConfig(HintConfig):
    """How query tokens attend to passage tokens (method 4.3).

    :param heads: of the attention.
    :param dropout: on the attention weights, while training.
    :param filters: letters of ``qsa``: tokens of the query, stop words, and what has no letter cannot be
        attended to. A passage that they hide altogether is shown whole (defect D18).
    :param init: ``identity`` starts with projections that pass embeddings through, scaled so that a query
        token attends to its nearest passage tokens; ``default`` is PyTorch's random start, the authors'.
    :param sharpness: of the identity start: the attention logit of two equal tokens of mean length.
    """

    name: ClassVar[str] = "qpeft-a"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "faithful": {**FAITHFUL, "init": "default"},
    }

    heads: int = 2
    dropout: float = 0.1
    filters: str = ""
    init: Literal["identity", "default"] = "identity"
    sharpness: float = 20.0

    def check(self) -> None:
        """Raise :class:`InputError` for values that do not go together."""
        HintConfig.check(self)
        self._at_least(1, "heads")
        self._letters(self.filters, "qsa")
        if not 0.0 <= self.dropout < 1.0:
            raise InputError(f"adapter {self.name}: dropout is from 0 to below 1, not {self.dropout}")
        if self.sharpness <= 0.0:
            raise InputError(f"adapter {self.name}: sharpness must be above 0, not {self.sharpness}")
