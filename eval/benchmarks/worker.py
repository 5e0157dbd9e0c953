"""One job of a benchmark, in this process: ``python -m eval.benchmarks.worker JOB.json ANSWER.json``."""

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from qpeft_rerank import console

# Imported only when asked for: one job's libraries would weigh on another's memory and start.
KINDS = {
    "prepare": "eval.benchmarks.prepare",
    "measure": "eval.benchmarks.scoring",
    "search": "eval.benchmarks.scoring",
    "reference": "eval.benchmarks.reference",
    "ceiling": "eval.benchmarks.ceiling",
    "package": "eval.benchmarks.packages",
    "make_t5": "eval.benchmarks.packages",
    "t5_operations": "eval.benchmarks.packages",
    "llama": "eval.benchmarks.llama",
    "scale": "eval.benchmarks.scaling",
    "overhead": "eval.benchmarks.overheads",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Do the job; return the exit status (0, or 2 with one line on stderr)."""
    asked, answer = map(Path, sys.argv[1:] if argv is None else argv)

    def command() -> int:
        job = json.loads(asked.read_text("utf-8"))
        function = getattr(importlib.import_module(KINDS[job["kind"]]), job["kind"])
        answer.write_text(json.dumps(function(job)), "utf-8")
        return 0

    return console.run(command)


if __name__ == "__main__":
    sys.exit(main())
