"""The house is kept: floors, style, types."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
#: The top of the repository, but for dot files.
MEANT = {
    "LICENSE",
    "MANIFEST.in",
    "Makefile",
    "README.md",
    "eval",
    "pyproject.toml",
    "qpeft_rerank",
    "runs",
    "setup.cfg",
    "tests",
}


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


def test_nothing_stray_is_tracked() -> None:
    """What a command leaves in the folder that it ran in is not the project's."""
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("no Git checkout, or no git: there is no telling what is tracked")
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:  # a folder of another owner, which git does not read
        pytest.skip(done.stderr.strip())
    top = {name.partition("/")[0] for name in done.stdout.split("\0") if name}
    assert {name for name in top if not name.startswith(".")} == MEANT


def test_what_shipped_files_say() -> None:
    """Prompts, demo questions and shipped adapters reach users only if setup.cfg lists them."""
    from setuptools.config.setupcfg import read_configuration

    patterns = read_configuration(str(ROOT / "setup.cfg"))["options"]["package_data"]
    for package, globs in patterns.items():
        folder = ROOT / package.replace(".", "/")
        data = {path for path in folder.rglob("*") if path.suffix in (".yaml", ".jsonl") and path.is_file()}
        data = {path for path in data if path.parent.parent == folder}
        assert data <= {path for pattern in globs for path in folder.glob(pattern)}


def test_a_source_distribution_holds_the_package_alone(tmp_path: Path) -> None:
    code = "import setuptools; setuptools.setup()"
    command = [sys.executable, "-c", code, "--quiet", "egg_info", "--egg-base", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    (listed,) = tmp_path.glob("*/SOURCES.txt")
    mine = [line for line in listed.read_text("utf-8").splitlines() if str(tmp_path) not in line]
    tops = {line.partition("/")[0] for line in mine}
    assert tops - {"LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.cfg"} == {"qpeft_rerank"}


@pytest.mark.parametrize(
    ("folder", "words", "status"),
    [
        ("plain", [], 0),
        ("with space", [], 2),
        ("with space", ["-C", "..", "-f", "with space/Makefile"], 2),
        ("plain", ["VENV=with space"], 2),
        ("plain", ["VENV="], 2),
    ],
)
def test_make_refuses_names_that_it_would_split(tmp_path: Path, folder: str, words: list[str], status: int) -> None:
    place = tmp_path / folder
    place.mkdir()
    for name in ("Makefile", "setup.cfg"):
        shutil.copy(ROOT / name, place)
    # The settings of the make that may run these tests are not this one's.
    clean = {name: value for name, value in os.environ.items() if name != "VENV" and not name.startswith("MAKE")}
    command = ["make", "--dry-run", *words, "test"]
    done = subprocess.run(command, cwd=place, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    if status:
        complaint = [line for line in done.stderr.splitlines() if "***" in line]
        assert len(complaint) == 1 and "the project's folder or of VENV has white space" in complaint[0]
        assert "python" not in done.stdout
    else:
        assert f'"{place}/.venv/bin/python" -m pytest' in done.stdout and not done.stderr


def test_make_installs_and_runs_in_one_place_wherever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    for name in ("Makefile", "setup.cfg"):
        shutil.copy(ROOT / name, tmp_path / "plain")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    for words, variables in ((["VENV=v"], {}), ([], {"VENV": "v"})):
        command = ["make", "--dry-run", "-f", "plain/Makefile", "test", *words]
        done = subprocess.run(command, cwd=tmp_path, env=clean | variables, capture_output=True, text=True, check=False)
        named = re.findall(r'[^\s"]*bin/python\b', done.stdout)
        assert set(named) == {f"{tmp_path}/v/bin/python"}
