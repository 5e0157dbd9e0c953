"""What the heap costs in memory and in time, on the system whose C library we tell how to keep it."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

SCRIPT = """
import json, sys
from qpeft_rerank import Reranker

def held():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon"))

reranker = Reranker.from_pretrained(sys.argv[1], dtype="float32", device="cpu")
# As many tokens of a vocabulary as real models have, in batches of ever other shapes.
pairs = [(f"what is {n} " + "and more " * (n * 5 % 7), f"passage {n} " * (1 + n * 3 % 17)) for n in range(2400)]
found = []
for start in range(0, len(pairs), 600):
    reranker.score(pairs[start : start + 600])
    found.append(held())
print(json.dumps(found))
"""

AGAIN = """
import resource, torch
from qpeft_rerank.likelihood.heap import keep_heap_small

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    blocks = [torch.zeros(1 << 20) for _ in range(8)]
    del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_heap_small()
for _ in range(4):
    faults()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="asks for a switch of glibc's heap")
def test_what_layers_free_is_not_fetched_again() -> None:
    done = subprocess.run([sys.executable, "-c", AGAIN], capture_output=True, text=True, check=True, cwd=Path.cwd())
    # 32 MB are 8,192 pages.
    assert int(done.stdout) < 800


@pytest.mark.slow
# `keep_heap_small` sets a switch of glibc's, and the script reads Linux's /proc: elsewhere there is nothing to measure.
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="measures a switch of glibc's heap, through /proc")
def test_memory_grows_little(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", vocab_size=49152)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    first, *_, last = json.loads(done.stdout)
    # Megabytes: 29 on a Xeon, 86 there with the heap left alone; 220 when products had any number of rows.
    assert last - first < 120
