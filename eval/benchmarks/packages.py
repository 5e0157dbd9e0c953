"""The jobs of the published packages that score with T5: ``rerankers`` and ``llm-rankers``.

They run under a Python that has these packages, of which this project needs none. No T5 weights can be had
without a hub, so a T5 of the base size with random weights stands in: its scores mean nothing, its cost is real.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval.benchmarks import workloads
from eval.benchmarks.clock import Clock, peak_mb
from eval.benchmarks.workloads import Pair
from qpeft_rerank.errors import InputError

_VOCABULARY = 8000
# T5 1.1's base: about as many weights for a passage's token (85 million) as SmolLM2-135M has.
_SHAPE = {
    "d_model": 768,
    "d_kv": 64,
    "d_ff": 2048,
    "num_layers": 12,
    "num_decoder_layers": 12,
    "num_heads": 12,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
    "vocab_size": 32128,
    "decoder_start_token_id": 0,
}


def make_t5(job: dict[str, Any]) -> dict[str, Any]:
    """Write the T5 and its tokenizer, trained on the workload's texts, unless they are there.

    :param job: ``folder``, ``workload`` (file); ``shape`` replaces parts of the model's configuration.
    """
    folder = Path(job["folder"])
    if (folder / "config.json").is_file():
        return {"folder": str(folder)}
    import torch
    from tokenizers import SentencePieceUnigramTokenizer
    from transformers import T5Config, T5ForConditionalGeneration, T5Tokenizer

    pairs = workloads.from_json(json.loads(Path(job["workload"]).read_text("utf-8")))
    texts = [text for pair in pairs for text in (pair.query, pair.text)]
    trained = SentencePieceUnigramTokenizer()
    special = ["<pad>", "</s>", "<unk>"]
    trained.train_from_iterator(
        texts, vocab_size=_VOCABULARY, special_tokens=special, unk_token="<unk>", show_progress=False
    )
    vocabulary = [tuple(entry) for entry in json.loads(trained.to_str())["model"]["vocab"]]
    fresh = folder.with_name(f"{folder.name}.{os.getpid()}")
    T5Tokenizer(vocab=vocabulary, extra_ids=0).save_pretrained(fresh)
    torch.manual_seed(0)
    T5ForConditionalGeneration(T5Config(**{**_SHAPE, **job.get("shape", {})})).save_pretrained(fresh)
    fresh.rename(folder)
    return {"folder": str(folder)}


def package(job: dict[str, Any]) -> dict[str, Any]:
    """Score a workload with a published package, as :func:`eval.benchmarks.scoring.measure` does with the others.

    :param job: ``row``, ``batch``, ``workload`` (file), ``t5`` (folder), ``threads``.
    :raises InputError: if the package is not installed.
    """
    clock = Clock()
    import torch

    torch.set_num_threads(job["threads"])
    pairs = workloads.from_json(json.loads(Path(job["workload"]).read_text("utf-8")))
    try:
        rank, model = {"rerankers": _rerankers, "llm-rankers": _llm_rankers}[job["row"]](job["t5"], job["batch"])
    except ImportError as error:
        raise InputError(f"{job['row']} cannot be imported ({error})") from None
    load, loaded = clock.lap(), peak_mb()
    rank(pairs[0].query, pairs[:2])
    warm = clock.lap()
    listed: dict[str, list[Pair]] = {}
    for pair in pairs:
        listed.setdefault(pair.query, []).append(pair)
    found = {}
    for query, of_query in listed.items():
        found.update({(query, docid): score for docid, score in rank(query, of_query).items()})
    took, peak = clock.lap(), peak_mb()
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    return {
        "load": load,
        "warm": warm,
        "score": took,
        "scores": [found[pair.query, pair.docid] for pair in pairs],
        "pairs": len(pairs),
        "model_mb": weights / 1e6,
        "loaded_mb": loaded,
        "peak_mb": peak,
    }


Rank = Callable[[str, list[Pair]], dict[str, float]]


def _rerankers(folder: str, batch: int) -> tuple[Rank, Any]:
    from rerankers import Reranker

    ranker = Reranker(folder, model_type="upr", device="cpu", dtype="float32", batch_size=batch, verbose=0)
    if ranker is None:
        raise InputError("rerankers made no UPR ranker; install rerankers[transformers]")

    def rank(query: str, pairs: list[Pair]) -> dict[str, float]:
        docids = [pair.docid for pair in pairs]
        results = ranker.rank(query=query, docs=[pair.text for pair in pairs], doc_ids=docids)
        return {result.document.doc_id: result.score for result in results.results}

    return rank, ranker.model


def _llm_rankers(folder: str, batch: int) -> tuple[Rank, Any]:
    from llmrankers.pointwise import PointwiseLlmRanker
    from llmrankers.rankers import SearchResult

    ranker = PointwiseLlmRanker(folder, folder, "cpu", method="qlm", batch_size=batch)

    def rank(query: str, pairs: list[Pair]) -> dict[str, float]:
        listed = [SearchResult(docid=pair.docid, score=0.0, text=pair.text) for pair in pairs]
        return {result.docid: result.score for result in ranker.rerank(query, listed)}

    return rank, ranker.llm


def t5_operations(job: dict[str, Any]) -> dict[str, Any]:
    """Count what the T5 needs for each pair alone, by torch on a model without numbers: no work of the package's.

    :param job: ``workload`` (file), ``t5`` (folder).
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoConfig, T5ForConditionalGeneration, T5Tokenizer

    pairs = workloads.from_json(json.loads(Path(job["workload"]).read_text("utf-8")))
    tokenizer = T5Tokenizer.from_pretrained(job["t5"])
    with torch.device("meta"):
        model = T5ForConditionalGeneration(AutoConfig.from_pretrained(job["t5"])).eval()
    total = 0
    for pair in pairs:
        text = f"Passage: {pair.text}. Please write a question based on this passage."
        given, asked = (
            torch.empty(1, len(tokenizer(words)["input_ids"]), dtype=torch.long, device="meta")
            for words in (text, pair.query)
        )
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            model(input_ids=given, decoder_input_ids=asked, use_cache=False)
        total += counter.get_total_flops()
    return {"operations": total}
