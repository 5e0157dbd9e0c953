"""SIGKILL at random moments, then the same command again: nothing is lost and no byte differs."""

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tiny

from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import save_adapter
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.prompt import load_template
from tests.killing import size_of

KILLS = 8
TOPICS, DEPTH = 25, 100


@pytest.fixture(params=["one", "compared"])
def command(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """A job of 2,500 pairs, each a batch of its own, so that there are many moments to die in.

    Compared, every pair is scored by two methods, and batches are rows that hold both.
    """
    words = "ada lovelace wrote the first program for an analytical engine of babbage".split()
    chance = random.Random(1)
    with (tmp_path / "corpus.jsonl").open("w", encoding="utf-8") as corpus:
        for n in range(DEPTH):
            text = " ".join(chance.choices(words, k=chance.randint(5, 30)))
            corpus.write(json.dumps({"id": f"d{n}", "contents": text}) + "\n")
    with (tmp_path / "topics.tsv").open("w", encoding="utf-8") as topics, (tmp_path / "run").open("w") as run:
        for topic in range(TOPICS):
            topics.write(f"{topic}\t{' '.join(chance.choices(words, k=5))}\n")
            run.writelines(f"{topic} Q0 d{n} {n + 1} {DEPTH - n} x\n" for n in range(DEPTH))
    model = tiny.save_model(tmp_path / "model")
    scoring = ["--batch-tokens", "1"]
    if request.param == "compared":
        loaded, plain = LanguageModel.load(str(model), "float32", "cpu"), load_template("plain")
        save_adapter(create_adapter("qpeft-a", loaded, plain), loaded, plain, tmp_path / "hints")
        scoring = ["--batch-tokens", "150", "--adapter", str(tmp_path / "hints"), "--compare", "none"]
    return [
        *(sys.executable, "-m", "qpeft_rerank.rerank", "--run", str(tmp_path / "run"), "--threads", "1"),
        *("--corpus", str(tmp_path / "corpus.jsonl"), "--topics", str(tmp_path / "topics.tsv")),
        *("--model", str(model), "--dtype", "float32", "--device", "cpu", *scoring),
    ]


@pytest.mark.slow
def test_killed_at_random_moments_the_output_is_the_same(command: list[str], tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole.trec", tmp_path / "broken.trec"
    journal = Path(f"{broken}.journal")
    scores = TOPICS * DEPTH * (1 + ("--compare" in command))
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    started = time.monotonic()
    subprocess.run([*command, "--output", str(whole)], check=True, **quiet)
    took = time.monotonic() - started
    step = 2 * size_of(Path(f"{whole}.journal")) // KILLS
    chance = random.Random()
    kills = 0
    for attempt in range(5 * KILLS):
        if kills == KILLS:
            break
        with subprocess.Popen([*command, "--output", str(broken)], **quiet) as process:
            if attempt % 4 == 0:  # anywhere, start-up included
                time.sleep(chance.uniform(0, took))
            else:  # among the batches, wherever the run then stands
                aim = size_of(journal) + chance.randint(1, step)
                while process.poll() is None and size_of(journal) < aim:
                    time.sleep(0.001)
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                kills += 1
        assert process.returncode in (0, -signal.SIGKILL)
        if broken.exists():  # it got to the end, or died on its way out: an output is whole or absent
            assert broken.read_bytes() == whole.read_bytes()
            for path in (*tmp_path.glob("broken.*trec"), journal):
                path.unlink()
    assert kills == KILLS
    subprocess.run([*command, "--output", str(broken)], check=True, **quiet)
    runs = [
        {path.name.partition(".")[2]: path.read_bytes() for path in tmp_path.glob(f"{name}.*trec")}
        for name in ("whole", "broken")
    ]
    assert runs[0] == runs[1] and len(runs[0]) == scores // (TOPICS * DEPTH)
    keys = [json.loads(line)["key"] for line in journal.read_bytes().splitlines() if b'"sum"' in line]
    assert len(set(keys)) <= scores
    assert len(keys) == len(set(keys))  # no batch that reached the disk was computed again
