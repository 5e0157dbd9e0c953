"""The job that measures one point of a curve: how cost grows with one quantity, all else kept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eval.benchmarks import work, workloads
from eval.benchmarks.clock import Clock, peak_mb
from eval.benchmarks.scoring import Texts
from eval.benchmarks.workloads import Pair
from qpeft_rerank import Passage, Reranker
from qpeft_rerank.likelihood.language_model import DTYPES, LanguageModel
from qpeft_rerank.likelihood.out_of_memory import fitting
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.likelihood.sources import find_model
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.trec.runs import Hit, Run
from qpeft_rerank.trec.topics import Topic

#: Models of random weights and real shapes, by name: width, of the MLP, layers, heads, heads of keys.
SHAPES = {
    "0.1M": (64, 128, 2, 4, 4),
    "7M": (256, 768, 8, 4, 4),
    "32M": (384, 1024, 20, 6, 3),
    "106M": (576, 1536, 30, 9, 3),  # SmolLM2-135M
    "314M": (960, 2560, 32, 15, 5),  # SmolLM2-360M
    "973M": (2048, 8192, 16, 32, 8),  # Llama-3.2-1B
}
#: The smallest, with which thousands of pairs take minutes.
TINY = "0.1M"


def scale(job: dict[str, Any]) -> dict[str, Any]:
    """Score what a point of a curve asks for.

    :param job: ``axis`` (a key of ``AXES``), ``value``, ``share`` (``off`` or ``auto``), ``model``, ``pairs``,
        ``threads``, and ``workload`` (file).
    :return: ``score`` as (wall, CPU) seconds, ``pairs``, ``operations`` needed, memory in MB.
    """
    torch.set_num_threads(job["threads"])
    pairs = workloads.from_json(json.loads(Path(job["workload"]).read_text("utf-8")))
    shape = job["value"] if job["axis"] == "size" else TINY if job["axis"] == "pairs" else None
    model = LanguageModel.load(job["model"], "float32", "cpu") if shape is None else random_model(job["model"], shape)
    tokens = job["value"] if job["axis"] == "batch" else None
    reranker = Reranker(Scorer(model, load_template("plain")), tokens, job["share"])
    return AXES[job["axis"]](reranker, pairs, job)


def random_model(name: str, shape: str) -> LanguageModel:
    """A Llama with random weights and the tokenizer of the model that is named."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    source = find_model(name)
    tokenizer = AutoTokenizer.from_pretrained(source.folder)
    width, inner, layers, heads, keys = SHAPES[shape]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=keys,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with fitting(f"a model of {shape} parameters does not fit into memory; leave --large out"):
        return LanguageModel(source, LlamaForCausalLM(config).to(DTYPES["float32"]), tokenizer)


def _scored(reranker: Reranker, pairs: list[Pair]) -> dict[str, Any]:
    listed = [(pair.query, Passage(*pair.texts)) for pair in pairs]
    reranker.score([*listed[:2], (f"{listed[0][0]} then", listed[0][1])])
    sequences = reranker.scorer.encode((pair.query, pair.title, pair.text) for pair in pairs)
    amount = work.whole(sequences) if reranker.methods.mode == "off" else work.distinct(sequences)
    clock = Clock()
    reranker.score(listed)
    took = clock.lap()
    operations = work.Work.of(reranker.scorer.model.model).operations(amount)
    return {"score": took, "pairs": len(pairs), "operations": operations, "peak_mb": peak_mb()}


def _as_given(reranker: Reranker, pairs: list[Pair], job: dict[str, Any]) -> dict[str, Any]:
    return _scored(reranker, pairs[: job["pairs"]])


def _lengths(reranker: Reranker, pairs: list[Pair], job: dict[str, Any]) -> dict[str, Any]:
    """Passages of so many tokens each, cut from all texts one behind the other; the same tokens altogether."""
    tokenizer = reranker.scorer.model.pieces.tokenizer
    ids = tokenizer(" ".join(pair.text for pair in pairs), add_special_tokens=False, verbose=False)["input_ids"]
    length = job["value"]
    count = max(1, job["pairs"] * 128 // length)
    made = []
    for place in range(count):
        start = place * length % max(1, len(ids) - length)
        text = tokenizer.decode(ids[start : start + length])
        made.append(Pair(str(place), pairs[place % len(pairs)].query, f"d{place}", "", text))
    return _scored(reranker, made)


def _repeats(reranker: Reranker, pairs: list[Pair], job: dict[str, Any]) -> dict[str, Any]:
    """Every passage with so many questions."""
    queries = list(dict.fromkeys(pair.query for pair in pairs))
    passages = list({pair.docid: pair for pair in pairs}.values())
    made = []
    for place in range(job["pairs"]):
        passage = passages[place // job["value"] % len(passages)]
        turn = place // (len(queries) * len(passages))
        query = queries[place % len(queries)] + " please" * turn
        made.append(Pair(str(place), query, *passage.texts))
    return _scored(reranker, made)


def _runs(reranker: Reranker, pairs: list[Pair], job: dict[str, Any]) -> dict[str, Any]:
    """A run of so many pairs: the workload's questions numbered anew until there are enough, 100 passages each."""
    queries = list(dict.fromkeys(pair.query for pair in pairs))
    docids, run, topics = list(dict.fromkeys(pair.docid for pair in pairs)), Run(), {}
    for number in range(job["value"] // 100):
        name = str(number)
        topics[name] = Topic(name, f"{queries[number % len(queries)]} {number // len(queries)}".removesuffix(" 0"))
        hits = [docids[(number * 37 + place) % len(docids)] for place in range(100)]
        run[name] = [Hit(docid, 100.0 - place, place + 1) for place, docid in enumerate(dict.fromkeys(hits))]
    before, clock = peak_mb(), Clock()
    result = reranker.rerank_run(run, topics, Texts(pairs))
    took = clock.lap()
    return {"score": took, "pairs": len(result.pairs), "loaded_mb": before, "peak_mb": peak_mb()}


AXES: dict[str, Callable[[Reranker, list[Pair], dict[str, Any]], dict[str, Any]]] = {
    "batch": _as_given,
    "length": _lengths,
    "depth": _as_given,
    "repeats": _repeats,
    "size": _as_given,
    "pairs": _runs,
}
