"""What a reranking job would do and cost, without scoring anything."""

import argparse
from collections.abc import Iterator, Mapping
from itertools import islice

from qpeft_rerank.collection.passages import Passages
from qpeft_rerank.engines.local import SHARD, shards
from qpeft_rerank.likelihood.cost import estimated_seconds, model_shape
from qpeft_rerank.likelihood.language_model import pick_device, pick_dtype
from qpeft_rerank.likelihood.scorer import Hinter, encode_pairs
from qpeft_rerank.likelihood.sharing import pays, plan_plain, plan_shared, total_tokens
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
    can_share: bool = True,
) -> Iterator[str]:
    """The plan, a line a fact. Tokens are counted on the first 32,768 pairs at most.

    :param can_share: whether model and adapter allow passages to be shared, as far as that is known.
    """
    device = pick_device(args.device)
    dtype = pick_dtype(args.dtype, device)
    source = find_model(args.model)
    shape = model_shape(source)
    builder = PromptBuilder(template, shape.pieces, shape.max_tokens, args.max_passage_tokens)
    budget = batch_size(args.batch_tokens, device)
    pairs = count_pairs(run, args.depth)
    counted = tokens = scored = padded = cut = batches = whole = 0
    mode = args.share_passages if can_share else "off"
    virtual = int(getattr(hinter, "virtual_tokens", 0))
    stream = islice(candidates(run, topics, passages, args.depth, args.missing), _SAMPLE)
    for shard in shards(stream, mode != "off"):
        sequences = encode_pairs(builder, (candidate.texts for candidate in shard), hinter)
        plain = plan_plain(sequences, budget)
        shared = plan_shared(sequences, budget, shape.attention, virtual) if mode != "off" else plain
        plan = shared if mode == "on" or pays(shared, plain) else plain
        counted += len(shard)
        tokens += sum(map(len, sequences))
        whole += total_tokens(plain)
        scored += sum(len(sequence.target) for sequence in sequences)
        padded += total_tokens(plan)
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
    yield f"batches    {batches * scale:,.0f} of at most {budget:,} tokens, padding {whole / max(tokens, 1) - 1:.1%}"
    yield f"sharing    {_sharing(mode, can_share, whole, padded, scale)}"
    seconds = estimated_seconds(int(shape.operations(padded, scored) * scale), device, dtype)
    yield f"estimate   {_duration(seconds)} (within a factor of two)"


def _sharing(mode: str, can_share: bool, whole: int, read: int, scale: float) -> str:
    if not can_share:
        return "not possible with this adapter"
    if mode == "off":
        return "off"
    if read == whole:
        return "saves nothing here: hardly a passage has several topics within a shard"
    saved = (whole - read) * scale
    return f"saves {saved:,.0f} tokens ({1 - read / whole:.1%}): a passage is read once for its topics in a shard"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
