"""Writing: whole or not at all."""

import gzip
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.output import output_fault, write_lines


def failing() -> Iterator[str]:
    yield "first\n"
    raise RuntimeError("stop")


@pytest.mark.parametrize("name", ["out.txt", "out.gz"])
def test_a_failure_leaves_the_old_file_and_no_other(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("old")
    with pytest.raises(RuntimeError):
        write_lines(str(path), failing())
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == [name]


def test_gzip_is_reproducible_and_readable(tmp_path: Path) -> None:
    for name in ("a.gz", "b.gz"):
        write_lines(str(tmp_path / name), ["é\n", "b\n"])
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()).decode() == "é\nb\n"


def test_a_link_is_kept_and_a_mode_is_usual(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_lines(str(tmp_path / "link"), ["new\n"])
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new\n"
    (tmp_path / "plain").touch()
    usual = stat.S_IMODE((tmp_path / "plain").stat().st_mode)
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == usual


def test_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    write_lines("-", ["a\n", "b\n"])
    assert capsys.readouterr().out == "a\nb\n"


def test_a_device_is_written_and_not_replaced() -> None:
    write_lines("/dev/null", ["a\n"])
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "absent" / "run", tmp_path):
        with pytest.raises(InputError, match="cannot be written") as caught:
            write_lines(str(path), ["a\n"])
        assert "\n" not in str(caught.value)


def test_what_a_killed_writer_left_is_taken_over(tmp_path: Path) -> None:
    code = "import os; from qpeft_rerank.trec.output import write_lines; write_lines('out', (os._exit(9) for _ in 'a'))"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 9
    assert len(os.listdir(tmp_path)) == 1
    write_lines(str(tmp_path / "out"), ["a\n"])
    assert os.listdir(tmp_path) == ["out"] and (tmp_path / "out").read_text() == "a\n"


def test_two_writers_of_one_file_are_one_too_many(tmp_path: Path) -> None:
    path = str(tmp_path / "out")

    def lines() -> Iterator[str]:
        yield "first\n"
        with pytest.raises(InputError, match="another process is writing it; wait for it"):
            write_lines(path, ["second\n"])
        yield "last\n"

    write_lines(path, lines())
    assert (tmp_path / "out").read_text() == "first\nlast\n"
    assert os.listdir(tmp_path) == ["out"]


def test_a_name_that_leaves_no_room_for_another_is_refused_at_once(tmp_path: Path) -> None:
    for name in ("x" * 254, "é" * 126):
        fault = output_fault(str(tmp_path / name), overwrite=False)
        assert fault is not None and fault.endswith("choose a shorter name")
    name = "x" * 250
    assert output_fault(str(tmp_path / name), overwrite=False) is None
    write_lines(str(tmp_path / name), ["a\n"])
