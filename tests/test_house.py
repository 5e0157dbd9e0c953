"""The house is kept: floors, style, types."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check"],
        ["ruff", "format", "--check"],
        ["importlinter.cli"],
        pytest.param(["mypy"], marks=pytest.mark.slow),  # a minute where nothing is cached
    ],
    ids=["lint", "format", "floors", "types"],
)
def test_check(command: list[str]) -> None:
    pytest.importorskip(command[0].split(".")[0], reason="comes with the [test] extra")
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    words = ["-c", code] if command == ["importlinter.cli"] else ["-m", *command]
    done = subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_shipped_files_say() -> None:
    """Prompts, demo questions and shipped adapters reach users only if setup.cfg lists them."""
    from setuptools.config.setupcfg import read_configuration

    patterns = read_configuration(str(ROOT / "setup.cfg"))["options"]["package_data"]
    for package, globs in patterns.items():
        folder = ROOT / package.replace(".", "/")
        data = {path for path in folder.rglob("*") if path.suffix in (".yaml", ".jsonl") and path.is_file()}
        data = {path for path in data if path.parent.parent == folder}
        assert data <= {path for pattern in globs for path in folder.glob(pattern)}
