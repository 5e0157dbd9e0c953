"""The BM25 run of miniwiki's trivia questions, made once by this project's own commands."""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from eval.benchmarks.measurements import digest
from eval.benchmarks.processes import run_job
from eval.benchmarks.workloads import DEPTH
from eval.commands import environment
from qpeft_rerank.cache import cache_dir
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.identity import file_digest


def prepared(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The command's workloads, drawn into ``folder``, and its model (:func:`eval.benchmarks.prepare.prepare`)."""
    run = trivia_run(Path(args.data), args.index) if "trivia" in args.workloads else None
    job = {"kind": "prepare", "threads": 1, "model": args.model, "data": args.data, "run": run and str(run)}
    job |= {"workloads": args.workloads, "pairs": args.pairs, "seed": args.seed, "folder": str(folder)}
    job["depth"] = getattr(args, "depth", DEPTH)
    return run_job(job)


def trivia_run(data: Path, index: str | None) -> Path:
    """The run's file in the cache.

    :param index: a Lucene index of ``miniwiki/corpus.jsonl``; None builds one.
    :raises InputError: if the data are not there, or a command fails.
    """
    corpus, topics = data / "miniwiki" / "corpus.jsonl", data / "miniwiki" / "topics.trivia.test.jsonl"
    for path in (corpus, topics):
        if not path.is_file():
            raise InputError(f"{path}: no such file; --data is the folder that holds dl19 and miniwiki")
    texts = file_digest(corpus)[:12]
    folder = cache_dir() / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    run = folder / f"trivia-{digest([texts, file_digest(topics), DEPTH])}.trec"
    if run.is_file():
        return run
    if index is None:
        index = str(folder / f"miniwiki-{texts}")
        _command("eval.index", "--corpus", str(corpus), "--output", index)
    say("searching the trivia questions, once")
    words = ["--index", index, "--topics", str(topics), "--hits", str(DEPTH), "--output", str(run), "--overwrite"]
    _command("qpeft_rerank.retrieve", *words)
    return run


def _command(module: str, *words: str) -> None:
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise InputError(f"{module}: {lines[-1].removeprefix('error: ') if lines else done.returncode}")
