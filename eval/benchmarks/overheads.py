"""The job that measures what is not scoring: files, the journal, the start."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from eval.benchmarks.clock import Clock, peak_mb
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.journal import Journal

_PER_TOPIC = 1000
# How long the first score may take before something must be wrong, in seconds.
_PATIENCE = 600


def overhead(job: dict[str, Any]) -> dict[str, Any]:
    """Measure one of ``files``, ``journal`` and ``start``.

    :param job: ``what``, ``threads``, ``model``, ``data``, ``folder`` (to write in), ``lines`` (of the run),
        ``workload`` (file).
    :return: seconds by name.
    """
    return {"files": _files, "journal": _journal, "start": _start}[job["what"]](job)


def _files(job: dict[str, Any]) -> dict[str, Any]:
    """Read a run, join it to passages, merge scores into it, write it."""
    from qpeft_rerank.candidates import candidates
    from qpeft_rerank.collection.jsonl import CorpusFile
    from qpeft_rerank.likelihood.scores import Score
    from qpeft_rerank.results import ScoredPair, merge
    from qpeft_rerank.trec.runs import read_run, write_run
    from qpeft_rerank.trec.topics import Topic

    folder, lines = Path(job["folder"]), job["lines"]
    corpus, given, written = folder / "many.jsonl", folder / "many.trec", folder / "many.out.trec"
    passages = max(2 * _PER_TOPIC, lines // 10)
    with corpus.open("w") as stream:
        for place in range(passages):
            stream.write(json.dumps({"id": f"d{place}", "contents": f"Passage {place} " + "says this " * 40}) + "\n")
    with given.open("w") as stream:
        stream.writelines(_run_lines(lines, passages))
    clock = Clock()
    run = read_run(str(given))
    read = clock.lap()
    topics = {topic: Topic(topic, f"question {topic}") for topic in run}
    clock.lap()
    joined = sum(1 for _ in candidates(run, topics, CorpusFile(str(corpus)), _PER_TOPIC))
    join = clock.lap()
    pairs = [ScoredPair(topic, hit.docid, Score(-hit.score, 7)) for topic, hits in run.items() for hit in hits]
    clock.lap()
    write_run(str(written), merge(run, pairs, 1.0), "speed")
    write = clock.lap()
    for path in (corpus, given, written):
        path.unlink()
    if joined != lines:
        raise InputError(f"{joined:,} of {lines:,} lines were joined")
    return {"lines": lines, "read": read, "join": join, "write": write, "peak_mb": peak_mb()}


def _run_lines(lines: int, passages: int) -> Iterator[str]:
    for place in range(lines):
        topic, rank = divmod(place, _PER_TOPIC)
        yield f"q{topic} Q0 d{(topic * 7919 + rank) % passages} {rank + 1} {1000 - rank * 0.5:.6f} Anserini\n"


class TimedJournal(Journal):
    """A journal that adds up the time spent in it."""

    def __init__(self, path: Path) -> None:
        self.seconds = 0.0
        super().__init__(path)

    def _timed(self, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        try:
            return call()
        finally:
            self.seconds += time.perf_counter() - start

    def begin(self, *args: Any) -> None:
        self._timed(lambda: super(TimedJournal, self).begin(*args))

    def earlier(self, *args: Any) -> Any:
        return self._timed(lambda: super(TimedJournal, self).earlier(*args))

    def mine(self, *args: Any) -> Any:
        return self._timed(lambda: super(TimedJournal, self).mine(*args))

    def add(self, *args: Any) -> None:
        self._timed(lambda: super(TimedJournal, self).add(*args))


def _journal(job: dict[str, Any]) -> dict[str, Any]:
    """Score a workload with a journal, and tell how much of the time the journal took."""
    import torch

    from eval.benchmarks.scoring import Texts, read_workload
    from qpeft_rerank import Reranker
    from qpeft_rerank.trec.runs import Hit, Run
    from qpeft_rerank.trec.topics import Topic

    torch.set_num_threads(job["threads"])
    pairs = read_workload(job)
    reranker = Reranker.from_pretrained(job["model"], None, device="cpu", dtype="float32")
    run, topics = Run(), {}
    for pair in pairs:
        topics[pair.topic] = Topic(pair.topic, pair.query)
        run.setdefault(pair.topic, []).append(Hit(pair.docid, 0.0, 1))
    path = Path(job["folder"]) / "speed.journal"
    path.unlink(missing_ok=True)
    with TimedJournal(path) as journal:
        clock = Clock()
        reranker.rerank_run(run, topics, Texts(pairs), journal=journal)
        took = clock.lap()
    return {"score": took, "journal": journal.seconds, "pairs": len(pairs)}


def _start(job: dict[str, Any]) -> dict[str, Any]:
    """Start the command on dl19 and wait for the first score in its journal; the model is converted already."""
    from qpeft_rerank.likelihood.sources import find_model

    find_model(job["model"])
    folder, data = Path(job["folder"]), Path(job["data"]) / "dl19"
    output = folder / "first.trec"
    journal = Path(f"{output}.journal")
    journal.unlink(missing_ok=True)
    words = ["--run", data / "run.bm25.txt", "--corpus", data / "corpus.jsonl", "--topics", data / "topics.tsv"]
    words += ["--model", job["model"], "--dtype", "float32", "--device", "cpu", "--output", output]
    words += ["--threads", job["threads"], "--overwrite"]
    command = [sys.executable, "-m", "qpeft_rerank.rerank", *map(str, words)]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    opened = None
    try:
        while time.perf_counter() - start < _PATIENCE:
            seen = journal.read_text("ascii") if journal.exists() else ""
            if opened is None and '"run"' in seen:
                opened = time.perf_counter() - start
            if '"sum"' in seen:
                return {"first_batch": opened, "first_score": time.perf_counter() - start}
            if process.poll() is not None:
                break
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    raise InputError("the command ended without a score")
