"""Every command's faults are one line and status 2."""

import logging
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from qpeft_rerank import console, doctor, evaluate, mine, rerank, retrieve, train
from qpeft_rerank.console import Parser, run
from qpeft_rerank.errors import InputError, first_line
from tests.helping import helps_at_once


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (InputError("run.trec:3: odd"), "error: run.trec:3: odd\n"),
        (PermissionError(13, "Permission denied", "/closed/out"), "error: /closed/out: Permission denied\n"),
        (OSError("the disk\nis gone"), "error: the disk\n"),
    ],
)
def test_one_line(fault: Exception, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise fault

    assert run(command) == 2
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("command", [rerank, retrieve, mine, train, evaluate, doctor])
def test_bad_arguments_are_one_line_too(command: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    required = {
        retrieve: "--index i --output o",
        mine: "--index i --topics t --output o",
        evaluate: "--qrels q --run r",
    }
    needed = required.get(command, "").split()
    if command is train:
        needed = "--adapter qpeft-a --train t --output o".split()
    with pytest.raises(SystemExit) as stopped:
        command.main([*needed, "--no-such", "two\nlines"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: unrecognized arguments: --no-such two lines\n"
    with pytest.raises(SystemExit) as stopped:
        command.main(["--help"])
    told = capsys.readouterr()
    assert stopped.value.code == 0 and told.out.startswith("usage: python -m qpeft_rerank.") and not told.err


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ({}, True),
        ({"WORLD_SIZE": "2", "RANK": "0"}, True),
        ({"WORLD_SIZE": "2", "RANK": "1"}, False),
        ({"RANK": "1"}, True),  # of a scheduler: no fellow speaks
        ({"WORLD_SIZE": "2"}, True),
    ],
)
def test_bad_arguments_of_several_processes_are_one_line(
    place: dict[str, str], says: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WORLD_SIZE", "RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit) as stopped:
        rerank.main(["--depth", "0"])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == ("error: argument --depth: '0' is not a whole number from 1\n" if says else "")


@pytest.mark.parametrize(
    ("parser", "needed", "flag"),
    [
        (rerank._parser, "", "--measures"),
        (rerank._parser, "", "--compare"),
        (train._parser, "--adapter a --output o", "--train"),
        (evaluate.parser, "--qrels q", "--run"),
    ],
)
def test_a_list_given_in_parts_is_whole(parser: Callable[[], Parser], needed: str, flag: str) -> None:
    args = parser().parse_args([*needed.split(), flag, "a", "b", flag, "c"])
    assert getattr(args, flag.removeprefix("--")) == ["a", "b", "c"]


def test_help_is_there_at_once() -> None:
    helps_at_once([command.__name__ for command in (rerank, retrieve, mine, train, evaluate, doctor)])


TREC = "1 Q0 d1 1 2.0 x\n", "1 0 d1 1\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, text in zip(("run.trec", "qrels"), TREC, strict=True):
        (tmp_path / name).write_text(text)
    return tmp_path


def shell(words: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of ours, as a shell does."""
    line = f"{shlex.quote(sys.executable)} -m qpeft_rerank.{words}"
    path = {"PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(line, shell=True, cwd=folder, capture_output=True, env=os.environ | path | environment)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("evaluate --qrels qrels --run - <&-", b"error: stdin is closed; name a file instead of -\n"),
        ("retrieve --index none --topics t --output - >&-", b"error: stdout is closed; name a file\n"),
    ],
)
def test_closed_streams(files: Path, words: str, said: bytes) -> None:
    done = shell(words, files)
    assert (done.returncode, done.stderr) == (2, said)


def test_a_stdout_that_takes_nothing_is_one_line(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    done = shell("evaluate --qrels qrels --run run.trec > /dev/full", files)
    assert (done.returncode, done.stderr.count(b"\n")) == (2, 1) and done.stderr.startswith(b"error: ")
    assert shell("evaluate --qrels qrels --run run.trec | true", files).stderr == b""


def test_a_refusal_after_words_that_stdout_does_not_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    code = "from qpeft_rerank.console import run; from qpeft_rerank.errors import InputError; import sys\n"
    code += "def refused(): print('words'); raise InputError('odd')\nsys.exit(run(refused))"
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: odd\n")


def test_a_stderr_that_takes_nothing_stops_no_work(files: Path) -> None:
    (files / "run.trec").write_text(TREC[0] + "9 Q0 d1 1 2.0 x\n")
    told = shell("evaluate --qrels qrels --run run.trec", files)
    silent = shell("evaluate --qrels qrels --run run.trec 2>/dev/full", files)
    assert told.stderr and (silent.returncode, silent.stdout) == (0, told.stdout)
    assert shell("evaluate --qrels qrels --run none.trec 2>/dev/full", files).returncode == 2


def test_closed_stderr_leaves_stdout_to_the_table(files: Path) -> None:
    (files / "run.trec").write_text(TREC[0] + "9 Q0 d1 1 2.0 x\n")
    told = shell("evaluate --qrels qrels --run run.trec", files)
    assert b"topics without judgements" in told.stderr
    silent = shell("evaluate --qrels qrels --run run.trec 2>&-", files)
    assert (silent.returncode, silent.stdout) == (0, told.stdout)
    assert shell("evaluate --qrels qrels --run none.trec 2>&-", files).returncode == 2


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1", "tlh_XX.none"])
def test_names_that_a_locale_has_no_letters_for(files: Path, locale: str) -> None:
    (files / "läufe.trec").write_text(TREC[0])
    odd = {"LC_ALL": locale, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "ascii"}
    done = shell("evaluate --qrels qrels --run läufe.trec --measures RR@10", files, **odd)
    assert done.returncode == 0, done.stderr
    assert b"1.0000" in done.stdout and b"ufe" in done.stdout
    done = shell("evaluate --qrels qrels --run läufe.none", files, **odd)
    assert done.returncode == 2 and done.stderr.count(b"\n") == 1 and b"no such file" in done.stderr


def test_a_count_beyond_what_libraries_count_to_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("--limit", "--show", "--threads", "--batch-tokens", "--hits"):
        with pytest.raises(SystemExit) as stopped:
            rerank.main([flag, str(10**20)])
        assert stopped.value.code == 2
        assert capsys.readouterr().err == f"error: argument {flag}: '{10**20}' is more than 2,147,483,647\n"


def test_what_a_library_announces_is_told_with_the_announcement():
    assert first_line(RuntimeError("\n  a fault  \nand more")) == "a fault"
    assert first_line(RuntimeError("Error(s) in loading:\n\tsize mismatch for q\n\tand k")) == (
        "Error(s) in loading: size mismatch for q"
    )
    assert first_line(RuntimeError("unfinished:")) == "unfinished:" and first_line(RuntimeError()) == "RuntimeError"


@pytest.mark.parametrize(
    ("resumes", "told"), [(True, "the same command goes on from here"), (False, "nothing was kept")]
)
def test_an_interrupt_tells_what_is_left(resumes: bool, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        raise KeyboardInterrupt

    assert console.run(command, resumes) == 130
    assert capsys.readouterr().err == f"interrupted; {told}\n"


def test_messages_nobody_reads_stop_no_work(tmp_path: Path) -> None:
    """``command 2>&1 >/dev/null | head -1``: the reader of stderr goes, and the work is done all the same."""
    code = (
        "import sys, time; from tqdm import tqdm; from qpeft_rerank import console\n"
        "def work():\n"
        "    for _ in tqdm(range(40), mininterval=0):\n"
        "        time.sleep(0.02); console.say('a line')\n"
        f"    open({str(tmp_path / 'made')!r}, 'w').close(); return 0\n"
        "sys.exit(console.run(work))"
    )
    job = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert job.stderr and job.stderr.read(1)
    job.stderr.close()
    assert job.wait(timeout=60) == 0
    assert (tmp_path / "made").is_file()


def test_an_unknown_home_folder_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    from qpeft_rerank.adapters.find import find_adapter

    with pytest.raises(InputError, match="~no-such-user/a: that home folder is not known"):
        find_adapter("~no-such-user/a")
    monkeypatch.setenv("QPEFT_RERANK_CACHE", "~no-such-user")
    from qpeft_rerank.cache import cache_dir

    with pytest.raises(InputError, match="home folder is not known"):
        cache_dir()


def test_threads_that_import_at_once_leave_warnings_on() -> None:
    before, inside, leave = logging.root.manager.disable, threading.Event(), threading.Event()

    def longer() -> None:
        with console.unwarned():
            inside.set()
            leave.wait(10)

    with console.unwarned():
        other = threading.Thread(target=longer)
        other.start()
        assert inside.wait(10)
    assert logging.root.manager.disable == logging.WARNING  # the other is still at it
    leave.set()
    other.join()
    assert logging.root.manager.disable == before


def test_settings_are_json_or_texts() -> None:
    given = ["k=3", "a=[1, 2]", 'b={"c": null}', "d=q_proj", 'e="[qv]_proj"', "f=", "g=.*[qv]_proj", "k=4"]
    found = {"k": 4, "a": [1, 2], "b": {"c": None}, "d": "q_proj", "e": "[qv]_proj", "f": "", "g": ".*[qv]_proj"}
    assert console.settings(given) == found


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("[lm_head]", [["lm_head"], "[lm_head]"]),
        ("['q_proj', v_proj]", [["q_proj", "v_proj"], "['q_proj', v_proj]"]),
        ("[qv]_proj", ["[qv]_proj"]),
        ("{q: 1}", ["{q: 1}"]),
    ],
)
def test_what_begins_as_json_and_is_none_is_refused_with_what_to_write(value: str, meant: list) -> None:
    with pytest.raises(InputError) as refused:
        console.settings([f"name={value}"])
    said = str(refused.value)
    assert said.startswith(f"--option name={value}: {value} is no JSON; write it ") and "\n" not in said
    # The advice, typed into a shell, gives what was meant.
    words = [word.rstrip(",") for word in shlex.split(said.partition("write it ")[2]) if word.startswith("name=")]
    assert [console.settings([word])["name"] for word in words] == meant
