"""Options of the soft prompt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from qpeft_rerank.adapters.base import Decay
from qpeft_rerank.adapters.config import AdapterConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftPromptConfig(AdapterConfig):
    """How the prompt's vectors are trained (method 4.5).

    :param layers: of an MLP over them; 0 for none.
    :param decay: which weights decay.
    """

    name: ClassVar[str] = "soft-prompt"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"corrected": {}, "faithful": {"decay": "all"}}

    layers: int = 0
    decay: Decay = "matrices"

    def check(self) -> None:
        """Raise :class:`InputError` for values that do not go together."""
        self._at_least(0, "layers")
