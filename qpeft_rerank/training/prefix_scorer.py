"""Scores of dev candidates over the kept states of their passages."""

from collections.abc import Sequence as ListLike

import torch
from torch import Tensor

from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Hinter, Scorer
from qpeft_rerank.likelihood.sharing import Batch
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import Template
from qpeft_rerank.training.prefix import log_probs_after_prefix, prefix_length
from qpeft_rerank.training.prefix_store import PrefixStore


class PrefixScorer(Scorer):
    """A scorer that reads passages' states from a store, for models and adapters of which ``prefix_works``.

    Its scores are the reference scorer's up to the rounding of what is kept, so never journal them.
    """

    def __init__(
        self,
        model: LanguageModel,
        template: Template,
        hinter: Hinter | None,
        max_passage_tokens: int | None,
        store: PrefixStore,
    ) -> None:
        super().__init__(model, template, hinter, max_passage_tokens)
        self.store = store
        self._whole = model

    def log_probs(self, sequences: ListLike[Sequence]) -> list[Tensor]:
        """Log-probability of each target token: float32 nats ``[scored]`` for each sequence."""
        with torch.inference_mode():
            flat = log_probs_after_prefix(self._whole, sequences, self.hinter, self.store).cpu()
        return list(flat.split([len(sequence.target) for sequence in sequences]))


def scorer_after_prefix(
    model: LanguageModel,
    template: Template,
    hinter: Hinter | None,
    max_passage_tokens: int | None,
    store: PrefixStore | None,
) -> Scorer:
    """A :class:`PrefixScorer`, or the reference scorer where there is no store."""
    if store is None:
        return Scorer(model, template, hinter, max_passage_tokens)
    return PrefixScorer(model, template, hinter, max_passage_tokens, store)


class PrefixMethods(Methods):
    """A :class:`PrefixScorer` alone: batches hold rows with as many tokens of their own, after the prefixes, together."""

    @property
    def divisible(self) -> None:
        """Not so: kept states are read, and made where they are missing, by one thread at a time."""

    def plan(self, sequences: ListLike[Sequence], batch_tokens: int) -> list[Batch]:
        """See :func:`plan_suffixes`."""
        return plan_suffixes(sequences, batch_tokens)


def plan_suffixes(sequences: ListLike[Sequence], batch_tokens: int) -> list[Batch]:
    """Batches by the length of suffixes, longest first.

    :param batch_tokens: most of ``rows x (longest prefix + longest suffix)``, which bounds keys and values;
        a longer sequence stands alone.
    """
    prefixes = [prefix_length(sequence) for sequence in sequences]
    suffixes = [len(sequence) - prefix for sequence, prefix in zip(sequences, prefixes, strict=True)]
    order = sorted(range(len(sequences)), key=lambda index: (-suffixes[index], -prefixes[index], index))
    batches: list[Batch] = []
    rows: list[list[int]] = []
    longest = 0
    for index in order:
        longest = max(longest, prefixes[index])
        if rows and (len(rows) + 1) * (longest + suffixes[rows[0][0]]) > batch_tokens:
            batches.append(Batch(rows, suffixes[rows[0][0]]))
            rows, longest = [], prefixes[index]
        rows.append([index])
    if rows:
        batches.append(Batch(rows, suffixes[rows[0][0]]))
    return batches
