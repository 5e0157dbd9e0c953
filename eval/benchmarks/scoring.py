"""The jobs that load a contestant and let it score a workload."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eval.benchmarks import workloads
from eval.benchmarks.clock import Clock, peak_mb
from eval.benchmarks.loops import LOOPS
from eval.benchmarks.workloads import Pair
from qpeft_rerank import Passage, Reranker
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.likelihood.compile_scorers import compile_scorers
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.out_of_memory import fitting_adapter
from qpeft_rerank.likelihood.quick import load_for_scoring
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.prompt.templates import load_template
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic

Score = Callable[[list[Pair]], list[float]]
# Pairs scored before the clock runs: libraries set themselves up, and sharing is tried out.
_WARM = 4


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """Load one contestant, let it score the warm-up, then the workload.

    :param job: ``row``, ``way``, ``settings``, ``batch``, ``model``, ``workload`` (file), ``threads``.
    :return: ``load``, ``warm`` and ``score`` as (wall, CPU) seconds, ``scores`` in nats, memory in MB.
    """
    clock = Clock()
    torch.set_num_threads(job["threads"])
    pairs = read_workload(job)
    score, model = _ready(job, pairs)
    load, loaded = clock.lap(), peak_mb()
    score(warm_up(pairs))
    warm = clock.lap()
    scores = score(pairs)
    took = clock.lap()
    numbers = {parameter.data_ptr(): parameter for parameter in model.modules.parameters()}
    weights = sum(parameter.numel() * parameter.element_size() for parameter in numbers.values())
    return {
        "load": load,
        "warm": warm,
        "score": took,
        "scores": [float(f"{value:.9g}") for value in scores],
        "pairs": len(pairs),
        "model_mb": weights / 1e6,
        "loaded_mb": loaded,
        "peak_mb": peak_mb(),
    }


def search(job: dict[str, Any]) -> dict[str, Any]:
    """Find a loop's fastest batch size on the workload's first pairs.

    :param job: as for :func:`measure`, with ``batches`` instead of ``batch``.
    :return: ``batch``, and the ``seconds`` of each size.
    """
    torch.set_num_threads(job["threads"])
    pairs = read_workload(job)
    loaded, sequences = _encoded(job["model"], pairs)
    width = max(map(len, sequences))
    some = sequences[: max(job["batches"])]
    loop = LOOPS[job["row"]]
    seconds = {}
    with torch.inference_mode():
        loop(loaded.model, some[:2], 2, width)
        for batch in job["batches"]:
            clock = Clock()
            loop(loaded.model, some, batch, width)
            seconds[str(batch)] = clock.lap().wall
    return {"batch": int(min(seconds, key=lambda batch: seconds[batch])), "seconds": seconds}


def reranker(model: str, adapter: str | None = None, dtype: str = "float32", **settings: Any) -> Reranker:
    """Our reranker, with an untrained adapter: what its hints cost does not depend on training.

    :param settings: of :class:`Reranker`; ``stock`` keeps the layers that ``transformers`` made, ``compile`` compiles
        them.
    """
    stock, compiled = settings.pop("stock", False), settings.pop("compile", False)
    template = load_template("plain")

    def scorer(precision: str) -> Scorer:
        loaded = (
            LanguageModel.load(model, precision, "cpu", stock) if stock else load_for_scoring(model, precision, "cpu")
        )
        made = Scorer(loaded, template)
        if adapter is not None:
            from qpeft_rerank.adapters.registry import create_adapter

            with fitting_adapter(f"adapter {adapter}", loaded.device):
                made = Scorer(loaded, template, create_adapter(adapter, loaded, template, seed=42))
        if compiled:
            compile_scorers([made])
        return made

    return Reranker(scorer(dtype), exact=lambda: scorer("float32"), **settings)


def read_workload(job: dict[str, Any]) -> list[Pair]:
    """The pairs of the job's workload."""
    return workloads.from_json(json.loads(Path(job["workload"]).read_text("utf-8")))


def warm_up(pairs: list[Pair]) -> list[Pair]:
    """The first pairs, one of them again with other questions."""
    first = pairs[:_WARM]
    return first + [
        Pair(f"{pair.topic} then {at}", f"{pair.query} then", *first[0].texts) for at, pair in enumerate(first)
    ]


def _ready(job: dict[str, Any], pairs: list[Pair]) -> tuple[Score, CausalModel]:
    if job["way"] == "ours":
        settings = dict(job["settings"])
        first = settings.pop("certify", None)
        ours = reranker(job["model"], **settings)
        if first:
            return lambda some: _certified(ours, some, first), ours.scorer.model

        def score(some: list[Pair]) -> list[float]:
            listed = [(pair.query, Passage(*pair.texts)) for pair in some]
            return [found.total for found in ours.score(listed)]

        return score, ours.scorer.model
    loaded, _ = _encoded(job["model"], pairs[:1])
    scorer = Scorer(loaded, load_template("plain"))
    loop = LOOPS[job["row"]]

    def loop_score(some: list[Pair]) -> list[float]:
        # Tokenising is part of the time; ours, which tokenises each text once, is lent to the rivals.
        sequences = scorer.encode((pair.query, pair.title, pair.text) for pair in some)
        with torch.inference_mode():
            return loop(loaded.model, sequences, job["batch"], max(map(len, sequences)))

    return loop_score, loaded


def _certified(ours: Reranker, pairs: list[Pair], first: int) -> list[float]:
    """Scores of whole topics, the first ranks made sure of."""
    run: dict[str, list[Hit]] = {}
    for pair in pairs:
        hits = run.setdefault(pair.topic, [])
        hits.append(Hit(pair.docid, -float(len(hits)), len(hits) + 1))
    topics = {pair.topic: Topic(pair.topic, pair.query) for pair in pairs}
    found = ours.certified_run(run, topics, Texts(pairs), first)
    totals = {pair[:2]: pair.score.total for pair in found.pairs}
    return [totals[pair.topic, pair.docid] for pair in pairs]


class Texts:
    """A workload's passages, in memory."""

    name = "the workload"

    def __init__(self, pairs: list[Pair]) -> None:
        self._of = {pair.docid: Passage(*pair.texts) for pair in pairs}

    def prepare(self, docids: object) -> None:
        """Nothing to do."""

    def fetch(self, docids: list[str]) -> dict[str, Passage]:
        """Those that there are."""
        return {docid: self._of[docid] for docid in docids if docid in self._of}


def _encoded(model: str, pairs: list[Pair]) -> tuple[LanguageModel, list[Sequence]]:
    loaded = LanguageModel.load(model, "float32", "cpu", stock=True)
    scorer = Scorer(loaded, load_template("plain"))
    return loaded, scorer.encode((pair.query, pair.title, pair.text) for pair in pairs)
