"""The job that gives the yardstick's scores, and what a workload needs of the processor."""

from typing import Any

import torch

from eval.benchmarks import work
from eval.benchmarks.scoring import read_workload, reranker


def reference(job: dict[str, Any]) -> dict[str, Any]:
    """Score a workload with the reference scorer on stock layers, one pair a forward pass, in float32.

    :param job: ``model``, ``adapter`` (or None), ``workload`` (file), ``threads``.
    :return: ``scores`` in nats and ``tokens`` scored of each pair, its ``topics``; ``whole`` and ``distinct``:
        tokens, scored tokens, attended pairs and operations, passages read for every pair or once.
    """
    torch.set_num_threads(job["threads"])
    pairs = read_workload(job)
    scorer = reranker(job["model"], job["adapter"], dtype="float32", stock=True).scorer
    sequences = scorer.encode((pair.query, pair.title, pair.text) for pair in pairs)
    scores = [scorer.score([sequence])[0] for sequence in sequences]
    needs = work.Work.of(scorer.model.model)
    amounts = {"whole": work.whole(sequences), "distinct": work.distinct(sequences)}
    return {
        "scores": [float(f"{score.total:.9g}") for score in scores],
        "tokens": [score.tokens for score in scores],
        "topics": [pair.topic for pair in pairs],
        **{name: amount._asdict() | {"operations": needs.operations(amount)} for name, amount in amounts.items()},
    }
