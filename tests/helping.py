"""Commands whose help is there at once."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Each takes a good part of a second to import.
CODE = """
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name).main(["--help"])
    except SystemExit as ended:
        assert ended.code == 0, name
    heavy = {"torch", "transformers", "numpy", "pandas", "scipy", "pyserini", "jnius"} & set(sys.modules)
    assert not heavy, (name, heavy)
"""


def helps_at_once(modules: list[str]) -> None:
    """Assert that commands say how they are used without waiting for a large library."""
    command = [sys.executable, "-c", CODE, *modules]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "``" not in done.stdout, "a docstring's markup"
    assert [line.split()[3] for line in done.stdout.splitlines() if line.startswith("usage: ")] == modules
