"""What the heap costs in memory and in time, on the system whose C library we tell how to keep it."""

import json
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import tiny

# Both tests measure what `keep_heap_small` sets: switches of glibc's, which other C libraries have not.
pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="switches of glibc's heap; this is none")

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
import resource, sys
from qpeft_rerank import Reranker

reranker = Reranker.from_pretrained(sys.argv[1], dtype="float32", device="cpu")
pairs = [(f"what is {n} " + "and more " * (n * 5 % 7), f"passage {n} " * (1 + n * 3 % 17)) for n in range(120)]
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    reranker.score(pairs)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
def test_what_layers_free_is_not_fetched_again(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", vocab_size=2048, hidden_size=256, intermediate_size=768)
    done = subprocess.run(
        [sys.executable, "-c", AGAIN, str(folder)], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    # Pages that came anew: 50 on a Zen 4, 58,000 there with glibc's own way.
    assert int(done.stdout) < 5000


@pytest.mark.slow
def test_memory_grows_little(tmp_path: Path) -> None:
    folder = tiny.save_model(tmp_path / "model", vocab_size=49152)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)], capture_output=True, text=True, check=True, cwd=Path.cwd()
    )
    first, *_, last = json.loads(done.stdout)
    # Megabytes: 29 on a Xeon, 86 there with the heap left alone; 220 when products had any number of rows.
    assert last - first < 120
