"""The reference scorer: simple, exact, the yardstick for every faster one."""

import hashlib
import json
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from collections.abc import Sequence as ListLike
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor

from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.causal_model import CausalModel, Embedder
from qpeft_rerank.likelihood.out_of_memory import NoRoomError, attempt
from qpeft_rerank.likelihood.scores import FORMAT, Score
from qpeft_rerank.prompt.builder import PromptBuilder
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import Template


class Hinter(Protocol):
    """An adapter as the scorer sees it: how long a candidate's hints are, and what they are."""

    @property
    def identity(self) -> str:
        """Digest of its configuration and weights."""
        ...

    def hint_tokens(self, query: ListLike[int], passage: ListLike[int]) -> int | None:
        """Number of hint slots for these token ids; None for no hint block."""
        ...

    def most_hints(self, query: ListLike[int]) -> int | None:
        """The most that :meth:`hint_tokens` gives with any passage."""
        ...

    def __call__(self, sequences: ListLike[Sequence], ids: Tensor, embedded: Tensor) -> Tensor:
        """Fill the hint slots: ``[batch, tokens, d]`` in and out."""
        ...


class BatchScorer(ABC):
    """Scores batches of encoded candidates.

    :param model: the frozen language model.
    :param hinter: fills the hint slots, or None where there are none.
    """

    def __init__(self, model: CausalModel, hinter: Embedder | None) -> None:
        self.model = model
        self.hinter = hinter

    @abstractmethod
    def encode(self, pairs: Iterable[tuple[str, str, str]]) -> list[Sequence]:
        """Segments of candidates given as ``(query, title, text)``."""

    def log_probs(self, sequences: ListLike[Sequence]) -> list[Tensor]:
        """Log-probability of each target token: float32 nats ``[scored]`` for each sequence."""
        with torch.inference_mode():
            flat = self.model.target_log_probs(sequences, self.hinter).cpu()
        return list(flat.split([len(sequence.target) for sequence in sequences]))

    def score(self, sequences: ListLike[Sequence]) -> list[Score]:
        """Score one batch. When memory runs out it is halved, down to single sequences.

        :raises InputError: if the model gives NaN for a pair.
        :raises NoRoomError: if one pair alone does not fit.
        """
        logs = attempt(lambda: self.log_probs(sequences))
        if logs is not None:
            return summed(logs, sequences)
        if len(sequences) == 1:
            raise NoRoomError(
                f"out of memory on one sequence of {len(sequences[0])} tokens; set --max-passage-tokens "
                "or a smaller --dtype"
            )
        half = len(sequences) // 2
        return self.score(sequences[:half]) + self.score(sequences[half:])


class Scorer(BatchScorer):
    """Scores (query, passage) pairs with a language model, a prompt and, perhaps, an adapter.

    :param model: the frozen language model.
    :param template: the prompt.
    :param hinter: the adapter, or None for the plain model.
    :param max_passage_tokens: a limit on passages beyond the model's own, or None.
    """

    def __init__(
        self,
        model: CausalModel,
        template: Template,
        hinter: Hinter | None = None,
        max_passage_tokens: int | None = None,
    ) -> None:
        super().__init__(model, hinter)
        self.hinter: Hinter | None = hinter
        self.template = template
        self.max_passage_tokens = max_passage_tokens
        # Virtual tokens, which some of PEFT's adapters put before each sequence, take room in the context.
        max_tokens = model.max_tokens - getattr(hinter, "virtual_tokens", 0)
        self.builder = PromptBuilder(template, model.pieces, max_tokens, max_passage_tokens)
        described = {
            "format": FORMAT,
            "model": model.source.identity,
            "tokenizer": model.source.tokenizer_identity,
            "adapter": hinter.identity if hinter else None,
            "prompt": template.content,
            "dtype": model.precision,
            "max_tokens": max_tokens,
            "max_passage_tokens": max_passage_tokens,
        }
        #: Digest of everything but the texts that a score depends on.
        self.fingerprint = hashlib.sha256(json.dumps(described, sort_keys=True).encode("utf-8")).hexdigest()

    @contextmanager
    def in_float32(self) -> Iterator["Scorer"]:
        """The same scorer with :meth:`CausalModel.in_float32`; this one waits until the context ends."""
        with self.model.in_float32():
            yield Scorer(self.model, self.template, self.hinter, self.max_passage_tokens)

    def encode(self, pairs: Iterable[tuple[str, str, str]]) -> list[Sequence]:
        """Segments of candidates given as ``(query, title, text)``. Each distinct text is tokenised once."""
        return encode_pairs(self.builder, pairs, self.hinter)

    def check(self, query: str) -> None:
        """Refuse a query that no passage leaves room for.

        :raises InputError: as :meth:`encode` would, hours later perhaps.
        """
        (asked,), (nothing,) = self.builder.encode_queries([query]), self.builder.encode_passages([("", "")])
        self.builder.build(asked, nothing, self.hinter.most_hints(asked.ids) if self.hinter else None)


def summed(logs: ListLike[Tensor], sequences: ListLike[Sequence]) -> list[Score]:
    """The score of each sequence from the log-probabilities of its target, ``[scored]`` in nats."""
    # Summed in float64: the order of summation then shows in no digit that is written.
    return [
        Score(float(log.double().sum()), len(sequence.target), sequence.truncated)
        for log, sequence in zip(logs, sequences, strict=True)
    ]


def encode_pairs(
    builder: PromptBuilder, pairs: Iterable[tuple[str, str, str]], hinter: Hinter | None = None
) -> list[Sequence]:
    """Segments of candidates given as ``(query, title, text)``, each distinct text tokenised once."""
    pairs = list(pairs)
    queries = list(dict.fromkeys(query for query, _, _ in pairs))
    passages = list(dict.fromkeys((title, text) for _, title, text in pairs))
    query_of = dict(zip(queries, builder.encode_queries(queries), strict=True))
    passage_of = dict(zip(passages, builder.encode_passages(passages), strict=True))
    sequences = []
    for text_of_query, title, text in pairs:
        query, passage = query_of[text_of_query], passage_of[title, text]
        hints = hinter.hint_tokens(query.ids, passage.ids) if hinter else None
        sequences.append(builder.build(query, passage, hints))
    return sequences


class NotFiniteError(InputError):
    """A model, or an adapter, gave a score that is no number."""


def refuse_nan(score: Score, what: str) -> None:
    """Stop on a score that is no number: it would rank arbitrarily."""
    if not math.isfinite(score.total):
        raise NotFiniteError(f"the model gave {score.total} for {what}; try --dtype float32, or another model")
