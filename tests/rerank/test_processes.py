"""One run scored by two processes: the run of one, also after a kill, and one line for whatever goes wrong."""

import errno
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import tiny

from qpeft_rerank import console
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import save_adapter
from qpeft_rerank.engines.processes import Team
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.prompt import load_template
from qpeft_rerank.rerank import main
from qpeft_rerank.trec.runs import read_run
from tests.launching import TWO_PROCESSES

TOPICS, DEPTH = 12, 20
RANKS = 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an adapter, and a run of which each passage has several topics."""
    folder = tmp_path_factory.mktemp("job")
    chance = random.Random(1)
    words = "ada lovelace wrote the first program for an analytical engine of babbage".split()
    with (folder / "corpus.jsonl").open("w") as corpus:
        for n in range(2 * DEPTH):
            text = " ".join(chance.choices(words, k=chance.randint(5, 30)))
            corpus.write(json.dumps({"id": f"d{n}", "contents": f"{n} {text}"}) + "\n")
    with (folder / "topics.tsv").open("w") as topics, (folder / "first.trec").open("w") as run:
        for topic in range(TOPICS):
            topics.write(f"{topic}\t{' '.join(chance.choices(words, k=5))}\n")
            listed = chance.sample(range(2 * DEPTH), DEPTH)
            run.writelines(f"{topic} Q0 d{n} {place} {DEPTH - place} x\n" for place, n in enumerate(listed, 1))
    (folder / "qrels").write_text("".join(f"{topic} 0 d{topic} 1\n" for topic in range(TOPICS)))
    source = str(tiny.save_model(folder / "tiny-llama"))
    model, plain = LanguageModel.load(source, "float32", "cpu"), load_template("plain")
    save_adapter(create_adapter("qpeft-a", model, plain), model, plain, folder / "hints")
    return folder


@pytest.fixture
def words(folder: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def words(output: str, *more: object) -> list[str]:
        given = ["--run", folder / "first.trec", "--corpus", folder / "corpus.jsonl", "--model", folder / "tiny-llama"]
        given += ["--topics", folder / "topics.tsv", "--device", "cpu", "--dtype", "float32", "--threads", 1]
        return [str(word) for word in [*given, "--output", tmp_path / output if output != "-" else "-", *more]]

    return words


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])} | more


def start(command: list[str], stdin: int | None = subprocess.DEVNULL) -> list[subprocess.Popen[str]]:
    """The processes, as a launcher starts them, without one that would end some because another has ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(RANKS), "LOCAL_WORLD_SIZE": str(RANKS)}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "qpeft_rerank.rerank", *command],
            env=environment(RANK=str(rank), LOCAL_RANK=str(rank), **place),
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(RANKS)
    ]


def finish(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Status, stdout and stderr of each."""
    try:
        told = [process.communicate(timeout=400) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *lines) for process, lines in zip(processes, told, strict=True)]


def errors(told: list[tuple[int, str, str]]) -> list[str]:
    return [line for _, _, stderr in told for line in stderr.splitlines() if line.startswith("error: ")]


def scores(path: Path) -> dict[tuple[str, str], float]:
    return {(topic, hit.docid): hit.score for topic, hits in read_run(str(path)).items() for hit in hits}


def same(one: Path, two: Path) -> None:
    """Scores of two runs agree, and so does their order wherever scores differ by more than that."""
    assert scores(one) == pytest.approx(scores(two), abs=5e-4)
    for topic, hits in read_run(str(one)).items():
        other = scores(two)
        ranked = [other[topic, hit.docid] for hit in hits]
        assert all(high >= low - 1e-3 for high, low in pairwise(ranked))


@pytest.mark.slow
def test_two_processes_write_the_run_of_one(folder, words, tmp_path, capsys) -> None:
    more = ["--adapter", folder / "hints", "--compare", "none", "--depth", 15, "--alpha", 0.5]
    more += ["--qrels", folder / "qrels", "--measures", "RR"]
    assert main(words("one.trec", *more, "--scores", tmp_path / "one.jsonl")) == 0
    alone = capsys.readouterr()
    told = finish(start(words("two.trec", *more, "--scores", tmp_path / "two.jsonl")))
    assert [status for status, _, _ in told] == [0, 0], told
    assert told[0][1] == alone.out, "the main process tells what one tells"
    assert "in 2 processes" in told[0][2]
    assert f"{TOPICS * 15 * 2}/{TOPICS * 15 * 2}" in told[0][2], "the bar counts all processes' scores"
    assert told[1][1:] == ("", ""), "the others are silent"
    same(tmp_path / "one.trec", tmp_path / "two.trec")
    compared = [tmp_path / f"{name}.ql-plain-tiny-llama-alpha0.5.trec" for name in ("one", "two")]
    same(*compared)
    listed = [
        [
            (row["qid"], row["docid"], row["tokens"], pytest.approx(row["sum"], abs=5e-4))
            for row in map(json.loads, rows)
        ]
        for rows in ((tmp_path / f"{name}.jsonl").read_text().splitlines() for name in ("one", "two"))
    ]
    assert [row[:3] for row in listed[0]] == [row[:3] for row in listed[1]]
    assert all(one[3].expected == two[3] for one, two in zip(*listed, strict=True))
    assert sorted(path.name for path in tmp_path.glob("two*.journal")) == ["two.trec.journal"]
    # One process goes on from what two have left: nothing is scored, and nothing differs.
    before = (tmp_path / "two.trec").read_bytes()
    journal = (tmp_path / "two.trec.journal").read_text().count('"sum"')
    assert journal == TOPICS * 15 * 2
    assert main(words("two.trec", *more, "--overwrite")) == 0
    assert (tmp_path / "two.trec").read_bytes() == before
    assert (tmp_path / "two.trec.journal").read_text().count('"sum"') == journal


@pytest.mark.slow
def test_killed_and_started_again(words, tmp_path) -> None:
    command = ["--batch-tokens", "1"]
    assert [status for status, _, _ in finish(start(words("whole.trec", *command)))] == [0, 0]
    processes = start(words("broken.trec", *command))
    parts = [tmp_path / f"broken.trec.rank{rank}of{RANKS}.journal" for rank in range(RANKS)]
    until = time.monotonic() + 60
    while not all(scored(part) >= 5 for part in parts) and time.monotonic() < until:
        time.sleep(0.002)
    for process in processes:
        process.send_signal(signal.SIGKILL)
    finish(processes)
    left = [scored(part) for part in parts]
    assert all(left) and sum(left) < TOPICS * DEPTH and not (tmp_path / "broken.trec").exists()
    again = finish(start(words("broken.trec", *command)))
    assert [status for status, _, _ in again] == [0, 0], again
    assert (tmp_path / "broken.trec").read_bytes() == (tmp_path / "whole.trec").read_bytes()
    assert scored(tmp_path / "broken.trec.journal") == TOPICS * DEPTH
    assert not any(part.exists() for part in parts)


def scored(journal: Path) -> int:
    return journal.read_bytes().count(b'"sum"') if journal.is_file() else 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "more", "said"),
    [
        ("3 Q0 nowhere 21 0.5 x", [], "docid nowhere (topic 3) is not in"),
        ("77 Q0 d1 1 1 x", [], "topic 77 is in the run but not among the 12 topics"),
        ("", ["--model", "/nowhere"], "/nowhere"),
        ("", ["--certify", "3", "--dtype", "mixed"], "--certify: works in one process"),
    ],
    ids=["passage", "topic", "model", "certify"],
)
def test_a_fault_ends_all_with_one_line(folder, words, tmp_path, line, more, said) -> None:
    run = tmp_path / "bad.trec"
    run.write_text((folder / "first.trec").read_text() + line + ("\n" if line else ""))
    told = finish(start([*words("out.trec"), "--run", str(run), *more]))
    assert [status for status, _, _ in told] == [2, 2], told
    (fault,) = errors(told)
    assert said in fault
    assert "Traceback" not in "".join(stderr for _, _, stderr in told)
    if line:
        assert f"{run}:{TOPICS * DEPTH + 1}: " in fault


@pytest.mark.slow
def test_a_full_disk_is_one_line_too(capsys) -> None:
    from torch.distributed import HashStore

    team = Team.__new__(Team)  # without fellows to join
    team._store, team.rank, team.count = HashStore(), 0, 1

    def full(team: Team) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "run.trec")

    assert console.run(lambda: team.guard(full)) == 2
    assert capsys.readouterr().err == "error: run.trec: No space left on device\n"


@pytest.mark.slow
def test_a_process_that_fails_stops_the_others_at_work(words, tmp_path) -> None:
    """One journal is in use, so its process cannot begin: the other does not wait for it."""
    from qpeft_rerank.likelihood.journal import Journal

    with Journal(tmp_path / "out.trec.rank1of2.journal"):
        told = finish(start(words("out.trec", "--batch-tokens", "1")))
    assert [status for status, _, _ in told] == [2, 2], told
    assert ["rank1of2.journal: another process is computing" in line for line in errors(told)] == [True]
    assert errors(told[1:]) and not (tmp_path / "out.trec").exists()


@pytest.mark.slow
def test_a_launcher_and_a_pipe(folder, words, tmp_path) -> None:
    """``accelerate launch`` starts several processes only where it is told that there are several GPUs."""
    command = [*words("-"), "--run", "-"]
    launched = subprocess.run(
        [sys.executable, *TWO_PROCESSES, "-m", "qpeft_rerank.rerank", *command],
        env=environment(QPEFT_RERANK_CACHE=str(tmp_path / "cache")),
        stdin=(folder / "first.trec").open(),
        capture_output=True,
        text=True,
        check=True,
        timeout=200,
    )
    assert "in 2 processes" in launched.stderr
    (tmp_path / "piped.trec").write_text(launched.stdout)
    assert main(words("one.trec")) == 0
    same(tmp_path / "one.trec", tmp_path / "piped.trec")
    assert not list((tmp_path / "cache").rglob("*.journal"))
