"""Reading: what is simply read, and what is refused with its place."""

import bz2
import gzip
import io
import lzma
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.lines import display_name, read_lines
from tests.advice import done_as_advised

LINES = st.lists(st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=20))


def feed(monkeypatch: pytest.MonkeyPatch, content: bytes) -> io.BytesIO:
    stream = io.BytesIO(content)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    return stream


@given(
    lines=LINES,
    end=st.sampled_from(["\n", "\r\n"]),
    bom=st.booleans(),
    packed=st.booleans(),
    last=st.booleans(),
)
def test_lines_come_back_whatever_the_encoding_of_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    lines: list[str],
    end: str,
    bom: bool,
    packed: bool,
    last: bool,
) -> None:
    lines = [*lines, "end"]
    content = end.join(lines) + (end if last else "")
    data = (b"\xef\xbb\xbf" if bom else b"") + content.encode()
    lines[:] = [line if bom and not place else line.removeprefix("\ufeff") for place, line in enumerate(lines)]
    path = tmp_path_factory.mktemp("lines") / "file.txt"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert list(read_lines(str(path))) == list(enumerate(lines, 1))


@pytest.mark.parametrize("packed", [False, True])
def test_stdin_is_read_and_left_open(monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    content = "a\n\nb é\n".encode()
    stream = feed(monkeypatch, gzip.compress(content) if packed else content)
    assert list(read_lines("-")) == [(1, "a"), (2, ""), (3, "b é")]
    assert not stream.closed
    assert display_name("-") == "<stdin>"


def test_unicode_line_separators_are_text(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("a\u2028b\x0bc\x85d\n", encoding="utf-8")
    assert list(read_lines(str(tmp_path / "f"))) == [(1, "a\u2028b\x0bc\x85d")]


def test_files_that_cat_has_joined_have_no_mark_in_the_middle(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbf1\ta\n\xef\xbb\xbf2\tb\n")
    assert list(read_lines(str(tmp_path / "f"))) == [(1, "1\ta"), (2, "2\tb")]


@pytest.mark.parametrize("before", [b"", b"0\tz\n"])
def test_lines_that_end_in_a_carriage_return_alone_are_not_one(tmp_path: Path, before: bytes) -> None:
    (tmp_path / "f").write_bytes(before + b"1\ta\r2\tb\r")
    with pytest.raises(
        InputError, match=rf"f:{1 + bool(before)}: a carriage return within the line; .*\(tr "
    ) as caught:
        list(read_lines(str(tmp_path / "f")))
    command = re.search(r"\((tr .*?)\)", str(caught.value))
    assert command and "\n" not in str(caught.value)
    made = subprocess.run(command[1], shell=True, input=(tmp_path / "f").read_bytes(), capture_output=True, check=True)
    (tmp_path / "f").write_bytes(made.stdout)
    assert [line for _, line in read_lines(str(tmp_path / "f"))][-2:] == ["1\ta", "2\tb"]


def test_a_carriage_return_is_white_space_in_json_and_in_long_texts(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b'\r\n{"id":\r1}\r\n')
    assert list(read_lines(str(tmp_path / "f"))) == [(1, ""), (2, '{"id":\r1}')]
    (tmp_path / "f").write_bytes(b"1\ta\n2\tb\rc\n")
    assert list(read_lines(str(tmp_path / "f"), texts=True)) == [(1, "1\ta"), (2, "2\tb\rc")]


def test_bad_utf8_is_reported_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "latin1.txt"
    path.write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(InputError, match=r"latin1\.txt:2: byte 4 is not UTF-8; .*iconv") as caught:
        list(read_lines(str(path)))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "encoding"), [("fine\ncafé\n", "latin-1"), ("café\n", "utf-16"), ("x\n" * 9, "utf-16")]
)
def test_what_is_to_be_typed_makes_utf_8_of_it(tmp_path: Path, text: str, encoding: str) -> None:
    (tmp_path / "f").write_bytes(text.encode(encoding))
    with pytest.raises(InputError) as caught:
        list(read_lines(str(tmp_path / "f")))
    command = re.search(r"\((iconv [^,)]*)", str(caught.value))
    assert command
    (tmp_path / "g").write_bytes(done_as_advised([*command[1].split(), "f"], tmp_path))
    assert "".join(f"{line}\n" for _, line in read_lines(str(tmp_path / "g"))) == text


@pytest.mark.parametrize("packer", ["bzip2", "xz", "zip"])
def test_what_others_packed_is_named(tmp_path: Path, packer: str) -> None:
    path = tmp_path / "run"
    if packer == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("run.trec", "1 Q0 a 1 2.0 x\n" * 99)
    else:
        path.write_bytes({"bzip2": bz2, "xz": lzma}[packer].compress(b"1 Q0 a 1 2.0 x\n" * 99))
    with pytest.raises(InputError, match=rf"packed by {packer}: unpack it, or pack it by gzip$"):
        list(read_lines(str(path)))


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_damaged_gzip_is_one_line(tmp_path: Path, damage: str) -> None:
    data = bytearray(gzip.compress(bytes(range(65, 90)) * 50 + b"\n" + b"x" * 999))
    if damage == "cut":
        del data[-12:]
    else:
        data[len(data) // 2] ^= 0xFF
    path = tmp_path / "run.gz"
    path.write_bytes(data)
    with pytest.raises(InputError, match=r"run\.gz:\d+: damaged gzip"):
        list(read_lines(str(path)))


def test_what_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        list(read_lines(str(tmp_path / "absent")))
    with pytest.raises(InputError, match="is a directory"):
        list(read_lines(str(tmp_path)))
