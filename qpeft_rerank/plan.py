"""What a reranking job would do and cost, without scoring anything."""

import argparse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from qpeft_rerank import exactness
from qpeft_rerank.candidates import candidates, count_pairs
from qpeft_rerank.certify import FEW
from qpeft_rerank.collection.passages import Passages
from qpeft_rerank.console import duration
from qpeft_rerank.engines.local import SHARD, Candidate, shards
from qpeft_rerank.likelihood.batches import batch_size
from qpeft_rerank.likelihood.cost import estimated_seconds, model_shape
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.language_model import pick_device, pick_precision
from qpeft_rerank.likelihood.scorer import encode_pairs
from qpeft_rerank.likelihood.sharing import Attention, Batch, pays, plan_plain, plan_shared, total_tokens
from qpeft_rerank.likelihood.sources import find_model
from qpeft_rerank.prompt.builder import PromptBuilder
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import Template
from qpeft_rerank.trec.runs import Run
from qpeft_rerank.trec.topics import Topic

# Candidates whose tokens are counted, about; beyond that the count is carried forward.
_SAMPLE = 8 * SHARD


@dataclass(frozen=True, slots=True)
class _Shard:
    """What one shard costs.

    :param sequences: of all methods.
    :param whole: batches in which every pair is read whole.
    :param apart: batches of each method by itself.
    :param plan: the batches that would be scored.
    """

    sequences: list[Sequence]
    whole: list[Batch]
    apart: list[Batch]
    plan: list[Batch]


def plan_lines(
    run: Run,
    topics: Mapping[str, Topic],
    passages: Passages,
    args: argparse.Namespace,
    template: Template,
    methods: Methods | None,
) -> Iterator[str]:
    """The plan, a line a fact. Tokens are counted on about 32,768 pairs at most.

    :param methods: the ways of scoring; None for the model alone, which is then not loaded.
    """
    device = pick_device(args.device)
    precision = pick_precision(args.dtype, device)
    source = find_model(args.model, weights=False)
    shape = model_shape(source)
    budget = batch_size(args.batch_tokens, device)
    pairs = count_pairs(run, args.depth)
    counted = tokens = scored = padded = cut = batches = whole = apart = 0
    can_share = methods is None or any(shared.works for _, shared in methods.teams)
    mode = args.share_passages if can_share else "off"
    builder = PromptBuilder(template, shape.pieces, shape.max_tokens, args.max_passage_tokens)
    sample = _sample(run, args.depth, -(-pairs // _SAMPLE))
    stream = candidates(sample, topics, passages, args.depth, args.missing, by_passage=mode != "off")
    for shard in shards(stream, mode != "off"):
        planned = (
            _planned(shard, methods, budget) if methods else _unloaded(shard, builder, shape.attention, mode, budget)
        )
        counted += len(shard)
        tokens += sum(map(len, planned.sequences))
        whole += total_tokens(planned.whole)
        apart += total_tokens(planned.apart)
        scored += sum(len(sequence.target) for sequence in planned.sequences)
        padded += total_tokens(planned.plan)
        cut += sum(sequence.truncated for sequence in planned.sequences)
        batches += len(planned.plan)
    looked_at = count_pairs(sample, args.depth)
    # By all that were looked at: passages that the collection lacks take no tokens anywhere in the run.
    scale = pairs / max(looked_at, 1)
    notes = [f"tokens counted on {counted:,}"] if looked_at < pairs else []
    if absent := looked_at - counted:
        notes.append(f"{absent * scale:,.0f} not in the collection")
    noted = f" ({', '.join(notes)})" if notes else ""
    yield f"model      {source.name} ({shape.body / 1e6:,.0f}M parameters and {shape.head / 1e6:,.0f}M of head)"
    yield f"           {source.folder}, {precision} on {device}"
    yield f"prompt     {template.name}"
    yield f"passages   {passages.name}"
    yield f"topics     {len(run):,}"
    yield f"pairs      {pairs:,}{noted}"
    yield f"tokens     {tokens * scale:,.0f}, of which scored {scored * scale:,.0f}; cut passages {cut * scale:,.0f}"
    # Whether a model is read without padding is known of a loaded one alone.
    padding = f"padding at most {whole / max(tokens, 1) - 1:.1%}"
    yield f"batches    {batches * scale:,.0f} of at most {budget:,} tokens, {padding}"
    # Whether a model's layers take several sequences in a row is known of a loaded one alone.
    unsure = methods is None and padded < whole
    yield f"sharing    {_sharing(mode, can_share, whole, apart, scale)}{', if this model allows it' if unsure else ''}"
    if methods and len(methods.scorers) > 1:
        yield f"comparing  {_comparing(methods, apart, padded, scale)}"
    seconds = estimated_seconds(int(shape.operations(padded, scored) * scale), device, precision)
    alone = seconds * shape.operations(whole, scored) / max(shape.operations(padded, scored), 1)
    yield f"estimate   {duration(seconds)} (within a factor of two){f', {duration(alone)} if nothing is shared' if unsure else ''}"
    if args.certify:
        whole_again = estimated_seconds(int(shape.operations(padded, scored) * scale), device, "float32")
        yield f"certify    besides, {FEW} pairs or more again in float32: up to {duration(whole_again)}, if all are open"
    if told := exactness.notice(precision, device):
        yield f"note       {told}"


def _sample(run: Run, depth: int, step: int) -> Run:
    """Every ``step``-th passage with all its topics: what passages repeat, and how often, is as in the whole run."""
    if step <= 1:
        return run
    docids = dict.fromkeys(hit.docid for hits in run.values() for hit in hits[:depth])
    kept = set(islice(docids, 0, None, step))
    return {topic: [hit for hit in hits[:depth] if hit.docid in kept] for topic, hits in run.items()}


def _planned(shard: list[Candidate], methods: Methods, budget: int) -> _Shard:
    made = [methods.encode((owner, candidate.texts) for candidate in shard) for owner in range(len(methods.scorers))]
    sequences = [sequence for one in made for sequence in one]
    return _Shard(
        sequences,
        [batch for one in made for batch in plan_plain(one, budget)],
        [batch for one, shared in zip(made, methods.apart, strict=True) for batch in shared.plan(one, budget)],
        methods.plan(sequences, budget),
    )


def _unloaded(shard: list[Candidate], builder: PromptBuilder, attention: Attention, mode: str, budget: int) -> _Shard:
    sequences = encode_pairs(builder, (candidate.texts for candidate in shard))
    plain = plan_plain(sequences, budget)
    shared = plan_shared(sequences, budget, attention) if mode != "off" else plain
    plan = shared if mode == "on" or pays(shared, plain) else plain
    return _Shard(sequences, plain, plan, plan)


def _comparing(methods: Methods, apart: int, read: int, scale: float) -> str:
    together = max(len(owners) for owners, _ in methods.teams)
    said = f"{len(methods.scorers)} ways of scoring"
    if together == 1:
        why = "sharing is off" if methods.mode == "off" else "no two read the same tokens through the passage"
        return f"{said}, each by itself: {why}"
    saved = f"saves {(apart - read) * scale:,.0f} tokens ({1 - read / max(apart, 1):.1%}) against separate runs"
    return f"{said}, up to {together} in one reading of a passage, which {saved}"


def _sharing(mode: str, can_share: bool, whole: int, read: int, scale: float) -> str:
    if not can_share:
        return "not possible with this adapter"
    if mode == "off":
        return "off"
    if read == whole:
        return "saves nothing here: hardly a passage has several topics"
    saved = (whole - read) * scale
    return f"saves {saved:,.0f} tokens ({1 - read / whole:.1%}): a passage is read once for its topics"
