"""Why a topic's passages rank as they do: each query token's log-probability and the adapter's hints, as one page."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from importlib import resources
from itertools import accumulate

import torch

from qpeft_rerank.adapters.base import Adapter, Trace
from qpeft_rerank.collection.passages import Passage, Passages
from qpeft_rerank.errors import InputError
from qpeft_rerank.labels import Label, TokenText
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.pages import page_template
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.reranker import Reranker
from qpeft_rerank.results import RerankedRun
from qpeft_rerank.trec.runs import Run
from qpeft_rerank.trec.topics import Topic

#: Passages on a page, at most.
MOST = 20
# From likely to unlikely: a token's colour is the first probability that it reaches.
_LIKELY = (0.5, 0.1, 0.01, 0.001)
# Shades of an attention weight, and the digits in which a page holds one: its root, in 63rds.
_SHADES = 8
_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
Span = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class ScoredToken:
    """A target token: its log-probability in nats, and how much that is above the mean of the passages shown."""

    label: Label
    log_prob: float
    above: float

    @property
    def probability(self) -> float:
        return math.exp(self.log_prob)

    @property
    def level(self) -> int:
        """Its colour, 0 for the likeliest."""
        return sum(self.probability < limit for limit in _LIKELY)


@dataclass(frozen=True, slots=True)
class Hint:
    """A token that R chose; ``value`` is what ranked it, None where nothing did."""

    label: Label
    value: float | None


@dataclass(frozen=True, slots=True)
class Explained:
    """One passage of the page.

    :param spans: the passage as the model read it: white space, text, shade of attention (or 1 for a hint).
    :param weights: A: for each query token a word with one digit a span; empty otherwise.
    :param hints: R: the hints in their order; None otherwise.
    """

    passage: Passage
    rank: int
    old_rank: int
    score: float
    old_score: float
    tokens: list[ScoredToken]
    total: float
    truncated: bool
    spans: list[Span]
    weights: str
    hints: list[Hint] | None

    @property
    def mean(self) -> float:
        """Nats per token."""
        return self.total / len(self.tokens)


def pick_topic(asked: str | None, among: Mapping[str, object], where: str) -> str:
    """The topic of the page: as asked, else the first."""
    if asked is None:
        return next(iter(among))
    if asked not in among:
        raise InputError(f"--explain-topic {asked}: is not among the {len(among):,} topics {where}")
    return asked


def page(reranker: Reranker, topic: Topic, run: Run, result: RerankedRun, passages: Passages, method: str) -> str:
    """The page of one topic, as HTML that needs nothing else.

    Log-probabilities are computed anew, a passage at a time: a journal keeps only their sums. Those of a
    certified run are float32's, as its first ranks are.

    :param run: the first stage.
    :param method: what the run's tag calls this way of scoring.
    """
    scorer = reranker.scorer
    with reranker.in_float32() if result.certificate else nullcontext(scorer) as precise:
        shown = explain(precise, topic, run, result, passages)
    hinter = scorer.hinter
    template = page_template((resources.files("qpeft_rerank") / "explain.html").read_text("utf-8"))
    return template.render(
        topic=topic,
        shown=shown,
        scored=sum(pair.topic == topic.id for pair in result.pairs),
        model=scorer.model.source.name,
        prompt=scorer.template.name,
        adapter=hinter.config.name if isinstance(hinter, Adapter) else "" if hinter is None else "PEFT",
        method=method,
        quick=scorer.model.precision if result.certificate else "",
        ranked_by=_ranked_by(hinter),
        attended=_own_labels(scorer, topic) if any(one.weights for one in shown) else [],
        digits=_DIGITS,
        shades=_SHADES,
        limits=_LIKELY,
    )


def explain(scorer: Scorer, topic: Topic, run: Run, result: RerankedRun, passages: Passages) -> list[Explained]:
    """A topic's reranked passages in their new order, at most :data:`MOST`."""
    scored = {pair.docid for pair in result.pairs if pair.topic == topic.id}
    ranked = [(docid, score) for docid, score in result.run[topic.id] if docid in scored][:MOST]
    old = {hit.docid: (rank, hit.score) for rank, hit in enumerate(run[topic.id], 1)}
    texts = passages.fetch([docid for docid, _ in ranked])
    found = [texts[docid] for docid, _ in ranked]
    sequences = scorer.encode((topic.text, passage.title, passage.text) for passage in found)
    logs = [scorer.log_probs([sequence])[0].double() for sequence in sequences]
    if not logs:
        return []
    above = torch.stack(logs) - torch.stack(logs).mean(0)
    names = TokenText(scorer.model.pieces.tokenizer)
    made = []
    for place, (sequence, log, (docid, score)) in enumerate(zip(sequences, logs, ranked, strict=True)):
        labels = names.labels(sequence.target)
        spans, weights, hints = _hints(scorer, sequence, names)
        made.append(
            Explained(
                found[place],
                place + 1,
                old[docid][0],
                score,
                old[docid][1],
                [ScoredToken(*token) for token in zip(labels, log.tolist(), above[place].tolist(), strict=True)],
                float(log.sum()),
                sequence.truncated,
                spans,
                weights,
                hints,
            )
        )
    return made


def _hints(scorer: Scorer, sequence: Sequence, names: TokenText) -> tuple[list[Span], str, list[Hint] | None]:
    """A passage's spans, its attention weights and its hints."""
    trace = _trace(scorer, sequence)
    ids = trace.passage
    groups = list(names.groups(ids))
    starts = list(accumulate((size for _, size in groups), initial=0))[:-1]
    shades = [0] * len(groups)
    weights, hints = "", None
    if trace.weights is not None:
        # The pieces of a character share a span.
        table = [
            [sum(row[start : start + size]) for start, (_, size) in zip(starts, groups, strict=True)]
            for row in trace.weights
        ]
        together = [sum(column) for column in zip(*table, strict=True)]
        top = max(together, default=0.0) or 1.0
        shades = [round(_SHADES * weight / top) for weight in together]
        weights = " ".join("".join(map(_digit, row)) for row in table)
    if trace.hints is not None:
        called = dict(reversed(list(zip(ids, names.labels(ids), strict=True))))
        values = trace.similarities or [math.nan] * len(trace.hints)
        hints = [
            Hint(called.get(token) or names.labels([token])[0], value if math.isfinite(value) else None)
            for token, value in zip(trace.hints, values, strict=True)
        ]
        chosen = set(trace.hints)
        shades = [
            int(any(token in chosen for token in ids[start : start + size]))
            for start, (_, size) in zip(starts, groups, strict=True)
        ]
    # The space in front of a word stays unshaded; a token that is nothing else keeps its own.
    bare = [text.lstrip() or text for text, _ in groups]
    spaces = [text[: len(text) - len(rest)] for (text, _), rest in zip(groups, bare, strict=True)]
    return list(zip(spaces, bare, shades, strict=True)), weights, hints


def _trace(scorer: Scorer, sequence: Sequence) -> Trace:
    if isinstance(scorer.hinter, Adapter):
        ids = torch.tensor([sequence.ids], device=scorer.model.device)
        for trace in scorer.hinter.explain([sequence], ids):
            return trace
    return Trace(sequence.ids[slice(*(sequence.body_span("passage") or (0, 0)))])


def _own_labels(scorer: Scorer, topic: Topic) -> list[Label]:
    """The query's own tokens, without what a prompt puts around them."""
    return TokenText(scorer.model.pieces.tokenizer).labels(scorer.builder.encode_queries([topic.text])[0].ids)


def _ranked_by(hinter: object) -> str:
    """What the number under a hint of R is."""
    config = hinter.config if isinstance(hinter, Adapter) else None
    if getattr(config, "source", "") == "random":
        return "random number"
    kind = "dot product" if getattr(config, "similarity", "") == "dot" else "cosine"
    squashed = getattr(config, "source", "") == "passage" and getattr(config, "selectable", "") == "row"
    return f"sigmoid of the {kind}" if squashed else kind


def _digit(weight: float) -> str:
    return _DIGITS[round(math.sqrt(min(max(weight, 0.0), 1.0)) * (len(_DIGITS) - 1))]
