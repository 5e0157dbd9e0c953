"""The journal: nothing written is lost, nothing wrong is believed, one writer at a time."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.journal import Journal, score_key
from qpeft_rerank.likelihood.scores import Score

SCORES = [(f"key{n}", Score(-1.5 * n - 1 / 3, n + 1, n % 2 == 0)) for n in range(4)]


def filled(path: Path) -> Path:
    with Journal(path) as journal:
        journal.begin("run")
        journal.add(SCORES[:2])
        journal.add(SCORES[2:])
    return path


def test_what_was_added_is_found_again_to_the_last_bit(tmp_path: Path) -> None:
    with Journal(filled(tmp_path / "j")) as journal:
        journal.begin("run")
        assert [journal.mine(key) for key, _ in SCORES] == [score for _, score in SCORES]
        assert journal.earlier("key0") is None


def test_another_run_finds_them_as_earlier_ones(tmp_path: Path) -> None:
    with Journal(filled(tmp_path / "j")) as journal:
        journal.begin("another")
        assert journal.mine("key0") is None
        assert journal.earlier("key0") == SCORES[0][1]


def test_equal_texts_in_two_shards_keep_their_own_scores(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path) as journal:
        journal.begin("run")
        journal.add([("k", Score(-1.0, 1))], shard=0)
        journal.add([("k", Score(-1.0000001, 1))], shard=1)
    with Journal(path) as journal:
        journal.begin("run")
        assert (journal.mine("k", 0), journal.mine("k", 1)) == (Score(-1.0, 1), Score(-1.0000001, 1))


@given(cut=st.integers(1, 60))
def test_a_torn_end_costs_the_torn_lines_only(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    path = filled(tmp_path_factory.mktemp("torn") / "j")
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    left = whole[:-cut].count(b"\n") - 2  # header and section
    with Journal(path) as journal:
        journal.begin("run")
        assert [journal.mine(key) is not None for key, _ in SCORES] == [n < left for n in range(len(SCORES))]
        journal.add(SCORES)
    with Journal(path) as journal:
        journal.begin("run")
        assert [journal.mine(key) for key, _ in SCORES] == [score for _, score in SCORES]


@pytest.mark.parametrize(
    "line",
    [b"nonsense\n", b'{"key": "x"}\n', b'{"key": "x", "sum": "1", "tokens": 2}\n', b"[]\n", b"[" * 100_000 + b"\n"],
    ids=["text", "no score", "string", "list", "deep"],
)
def test_damage_in_the_middle_is_named_by_line(tmp_path: Path, line: bytes) -> None:
    path = filled(tmp_path / "j")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], line, *lines[3:]]))
    with pytest.raises(InputError, match=r"j:4: .*\(sed -i 4d\)"):
        Journal(path)
    path.write_bytes(b"".join([*lines[:2], *lines[3:]]))  # what was a score's line is taken out
    with Journal(path) as journal:
        journal.begin("run")
        assert [journal.mine(key) for key, _ in SCORES] == [None, *(score for _, score in SCORES[1:])]


def test_a_file_of_another_kind_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text("1 Q0 d 1 2.0 tag\n", "utf-8")
    with pytest.raises(InputError, match=":1: not a journal; move"):
        Journal(path)
    assert path.read_text("utf-8") == "1 Q0 d 1 2.0 tag\n"


def test_a_journal_of_a_later_format_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    path.write_text('{"journal": 99}\n', "utf-8")
    with pytest.raises(InputError, match="another version"):
        Journal(path)


def test_an_unwritable_place_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    with pytest.raises(InputError, match="cannot be written"):
        Journal(tmp_path / "file" / "j")


@pytest.mark.parametrize("room", [0, 10])
def test_whoever_frees_some_space_goes_on_with_the_same_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """A notebook calls again; what the disk took of the batch that failed must not stay in the file's middle."""
    path, write, left = filled(tmp_path / "j"), os.write, [0]

    def full(descriptor: int, data: bytes) -> int:
        taken = data[: left.pop()] if left else b""
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, taken)

    with Journal(path) as journal:
        monkeypatch.setattr(os, "write", full)
        for fails in (lambda: journal.begin("later"), lambda: journal.add([("lost", Score(-1.0, 1))])):
            left[:] = [room]
            with pytest.raises(InputError, match="free some space"):
                fails()
        monkeypatch.undo()
        assert journal.mine("lost") is None
        journal.begin("later")
        journal.add([("kept", Score(-2.0, 1))])
    with Journal(path) as journal:
        journal.begin("later")
        assert journal.mine("kept") == Score(-2.0, 1) and journal.earlier("lost") is None
        assert journal.earlier("key0") == SCORES[0][1]


def test_a_second_writer_is_refused_and_a_killed_one_is_not_in_the_way(tmp_path: Path) -> None:
    path = tmp_path / "j"
    code = (
        "import sys, time, pathlib\nfrom qpeft_rerank.likelihood.journal import Journal\n"
        "with Journal(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        with pytest.raises(InputError, match="another process"):
            Journal(path)
        os.kill(holder.pid, signal.SIGKILL)
    Journal(path).__exit__(None, None, None)


@pytest.mark.parametrize("says", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_a_file_system_without_locks_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(says, os.strerror(says))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with Journal(filled(tmp_path / "j")) as journal:
        assert journal.written() == dict(SCORES)


@given(st.lists(st.text(max_size=5), min_size=4, max_size=4), st.lists(st.text(max_size=5), min_size=4, max_size=4))
def test_keys_differ_where_any_part_does(one: list[str], other: list[str]) -> None:
    assert (score_key(*one) == score_key(*other)) == (one == other)


def test_a_journal_in_the_cache_is_told_with_the_cache_s_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", "/dev/null")
    with pytest.raises(InputError, match=r"set QPEFT_RERANK_CACHE to a folder that can, or name a file$"):
        Journal(Path("/dev/null/journals/a.journal"))
