"""The job that reads the data, draws the samples and says what they are."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.benchmarks import work, workloads
from eval.benchmarks.measurements import digest
from eval.benchmarks.workloads import Pair, Workload
from qpeft_rerank.likelihood.cost import model_shape
from qpeft_rerank.likelihood.scorer import encode_pairs
from qpeft_rerank.likelihood.sources import EMBEDDED, embedded_gguf, find_model
from qpeft_rerank.prompt.builder import PromptBuilder
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import load_template


def prepare(job: dict[str, Any]) -> dict[str, Any]:
    """Write a file for each workload; tell what it holds, and which model will read it.

    :param job: ``model``, ``data``, ``run`` (or None), ``workloads``, ``pairs``, ``seed``, ``depth``, ``folder``.
    """
    source = find_model(job["model"])
    shape = model_shape(source)
    builder = PromptBuilder(load_template("plain"), shape.pieces, shape.max_tokens)
    run = Path(job["run"]) if job["run"] else None
    found = {}
    for name in job["workloads"]:
        workload = workloads.build(name, Path(job["data"]), run, job["pairs"], job["seed"], job["depth"])
        record = workloads.to_json(workload)
        path = Path(job["folder"]) / f"{name}.json"
        path.write_text(json.dumps(record), "utf-8")
        sample = _sequences(workload.pairs, builder)
        # The token ids, too: rivals' rows are kept while this project's code changes, which made them.
        decides = digest([record, [sequence.ids for sequence in sample]])
        found[name] = {"file": str(path), "digest": decides, **_facts(workload, sample, builder)}
    gguf = embedded_gguf() if job["model"] == EMBEDDED else Path(job["model"])
    return {
        "workloads": found,
        "model": source.name,
        "identity": source.identity,
        "folder": str(source.folder),
        "gguf": str(gguf) if gguf and gguf.suffix == ".gguf" else None,
    }


def _facts(workload: Workload, sample: list[Sequence], builder: PromptBuilder) -> dict[str, Any]:
    read, needed = _tokens([sample])
    whole_read, whole_needed = _tokens(_sequences(shard, builder) for shard in workload.whole)
    pairs = sum(map(len, workload.whole))
    return {
        "about": workload.about,
        "pairs": len(workload.pairs),
        "tokens": read / len(workload.pairs),
        "repeats": workloads.repeats([workload.pairs]),
        "repeated": 1 - needed / read,
        "whole_pairs": pairs,
        "whole_tokens": whole_read / pairs,
        "whole_repeats": workloads.repeats(workload.whole),
        "whole_repeated": 1 - whole_needed / whole_read,
    }


def _sequences(pairs: Iterable[Pair], builder: PromptBuilder) -> list[Sequence]:
    return encode_pairs(builder, ((pair.query, pair.title, pair.text) for pair in pairs))


def _tokens(shards: Iterable[list[Sequence]]) -> tuple[int, int]:
    """Tokens of all pairs, and those left when each shard reads a passage once."""
    read = needed = 0
    for sequences in shards:
        read += work.whole(sequences).tokens
        needed += work.distinct(sequences).tokens
    return read, needed
