"""Options of Q-PEFT-R."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from qpeft_rerank.adapters.hints import FAITHFUL, HintConfig
from qpeft_rerank.adapters.qpeft_r.selection import Similarity
from qpeft_rerank.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class QPeftRConfig(HintConfig):
    """Which tokens become hints (method 4.2 and 4.4).

    :param k: most hints; with source ``expansion``, hints for each query token.
    :param filters: letters of ``dqsa``, applied in this order: keep the first of equal tokens, drop those of
        the query, drop stop words, drop what has no letter. A passage that they empty goes unfiltered.
    :param source: the ``passage``; the whole ``vocabulary`` (the authors' mode 2); each query token's
        neighbours in it, ``expansion`` (mode 1, without filters); or ``random`` tokens of the passage,
        drawn by ``draw_seed`` and the texts: the control.
    :param similarity: ``cosine`` or ``dot`` product, of E' of the query with E of the passage.
    :param precision: ``float32``, or ``bfloat16`` as the authors, where most ranks are ties (D3).
    :param pool: consider only so many of the best pairs, as the authors; null for all.
    :param refill: too few tokens make ``fewer`` hints, or are the authors' ``draw`` with replacement,
        here from ``draw_seed`` and the texts (D14).
    """

    name: ClassVar[str] = "qpeft-r"
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "corrected": {},
        "faithful": {**FAITHFUL, "precision": "bfloat16", "pool": 1000, "refill": "draw"},
        # The two controls: hints that are plain text, untrained; and hints that know nothing.
        "textual": {"layers": 0, "embeddings": "frozen", "start": None},
        "random": {"source": "random"},
    }

    k: int = 15
    filters: str = "d"
    source: Literal["passage", "vocabulary", "expansion", "random"] = "passage"
    similarity: Similarity = "cosine"
    precision: Literal["float32", "bfloat16"] = "float32"
    pool: int | None = None
    refill: Literal["fewer", "draw"] = "fewer"
    draw_seed: int = 0

    def check(self) -> None:
        """Raise :class:`InputError` for values that do not go together."""
        HintConfig.check(self)
        self._at_least(1, "k")
        self._letters(self.filters, "dqsa")
        if self.pool is not None and self.pool < self.k:
            raise InputError(f"adapter {self.name}: pool {self.pool} is smaller than k {self.k}")
