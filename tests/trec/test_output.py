"""Writing: whole or not at all."""

import gzip
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.output import write_lines


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
