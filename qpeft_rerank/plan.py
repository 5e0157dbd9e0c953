"""What a reranking job would do and cost, without scoring anything."""

import argparse
from collections.abc import Iterator, Mapping
from itertools import islice

from qpeft_rerank.collection.passages import Passages
from qpeft_rerank.engines.local import SHARD
from qpeft_rerank.likelihood.batches import plan_batches
from qpeft_rerank.likelihood.cost import estimated_seconds, model_shape
from qpeft_rerank.likelihood.language_model import pick_device, pick_dtype
from qpeft_rerank.likelihood.scorer import Hinter, encode_pairs
from qpeft_rerank.likelihood.sources import find_model
from qpeft_rerank.prompt.builder import PromptBuilder
from qpeft_rerank.prompt.templates import Template
from qpeft_rerank.reranker import batch_size, candidates, count_pairs
from qpeft_rerank.trec.runs import Run
from qpeft_rerank.trec.topics import Topic

# Candidates whose tokens are counted; beyond that the count is carried forward.
_SAMPLE = 4 * SHARD


def plan_lines(
    run: Run,
    topics: Mapping[str, Topic],
    passages: Passages,
    args: argparse.Namespace,
    template: Template,
    hinter: Hinter | None = None,
) -> Iterator[str]:
    """The plan, a line a fact. Tokens are counted on the first 32,768 pairs at most."""
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    source = find_model(args.model)
    shape = model_shape(source)
    builder = PromptBuilder(template, shape.pieces, shape.max_tokens, args.max_passage_tokens)
    budget = batch_size(args.batch_tokens, device)
    pairs = count_pairs(run, args.depth)
    counted = tokens = scored = padded = cut = batches = 0
    stream = islice(candidates(run, topics, passages, args.depth, args.missing), _SAMPLE)
    while shard := list(islice(stream, SHARD)):
        sequences = encode_pairs(builder, (candidate.texts for candidate in shard), hinter)
        lengths = [len(sequence) for sequence in sequences]
        plan = plan_batches(lengths, budget)
        counted += len(shard)
        tokens += sum(lengths)
        scored += sum(len(sequence.target) for sequence in sequences)
        padded += sum(len(batch) * lengths[batch[0]] for batch in plan)
        cut += sum(sequence.truncated for sequence in sequences)
        batches += len(plan)
    scale = pairs / max(counted, 1)
    name = str(dtype).removeprefix("torch.")
    yield f"model      {source.name} ({shape.body / 1e6:,.0f}M parameters and {shape.head / 1e6:,.0f}M of head)"
    yield f"           {source.folder}, {name} on {device}"
    yield f"prompt     {template.name}"
    yield f"passages   {passages.name}"
    yield f"topics     {len(run):,}"
    yield f"pairs      {pairs:,}{'' if counted == pairs else f' (tokens counted on {counted:,})'}"
    yield f"tokens     {tokens * scale:,.0f}, of which scored {scored * scale:,.0f}; cut passages {cut * scale:,.0f}"
    yield f"batches    {batches * scale:,.0f} of at most {budget:,} tokens, padding {padded / max(tokens, 1) - 1:.1%}"
    seconds = estimated_seconds(int(shape.operations(padded, scored) * scale), device, dtype)
    yield f"estimate   {_duration(seconds)} (within a factor of two)"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
