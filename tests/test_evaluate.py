"""The evaluate command, as it is typed."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from qpeft_rerank import evaluate
from qpeft_rerank.evaluate import main

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "qrels").write_text("1 0 a 1\n2 0 b 2\n3 0 c 1\n4 0 c 0\n")
    (tmp_path / "first.trec").write_text("1 Q0 a 1 2 x\n1 Q0 b 2 1 x\n2 Q0 a 1 2 x\n2 Q0 b 2 1 x\n9 Q0 a 1 1 x\n")
    (tmp_path / "b|c").write_text("1 Q0 a 1 2 x\n2 Q0 b 2 1 x\n3 Q0 c 1 1 x\n4 Q0 a 1 1 x\n")
    (tmp_path / "topics.tsv").write_text("2\tx\n1\ty\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_several_runs_make_an_aligned_table(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--qrels", "qrels", "--run", "first.trec", "b|c", "--measures", "H@1", "MRR", "R@100"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "run            H@1     MRR   R@100",
        "first.trec  0.2500  0.3750  0.5000",
        "b|c         0.7500  0.7500  0.7500",
    ]
    assert err.splitlines() == [
        "first.trec: 2 of 4 topics are not in the run and count 0: 3, 4",
        "first.trec: 1 topics without judgements do not count",
    ]


def test_csv_per_topic_ends_with_the_mean(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--qrels", "qrels", "--run", "b|c", "--run", "first.trec", "--measures", "RR@10"]
    assert main([*arguments, "--per-topic", "--format", "csv", "--topics", "topics.tsv"]) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows == [
        ["run", "topic", "RR@10"],
        *(["b|c", topic, "1.0000"] for topic in ("2", "1", "all")),
        ["first.trec", "2", "0.5000"],
        ["first.trec", "1", "1.0000"],
        ["first.trec", "all", "0.7500"],
    ]


def test_topics_asked_for_count_0_without_judgements_and_that_is_told(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (files / "more.tsv").write_text("9\tx\n1\ty\n")
    (files / "run.trec").write_text("1 Q0 a 1 2 x\n9 Q0 a 1 1 x\n8 Q0 a 1 1 x\n")
    assert main(["--qrels", "qrels", "--run", "run.trec", "--measures", "P@1", "--topics", "more.tsv"]) == 0
    out, err = capsys.readouterr()
    assert out.split()[-1] == "0.5000"
    assert err.splitlines() == [
        "run.trec: 1 of 2 topics have no judgements and count 0: 9",
        "run.trec: 1 topics without judgements do not count",
    ]


def test_json_has_full_precision_and_what_is_missing(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--qrels", "qrels", "--run", "first.trec", "--format", "json", "--per-topic"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert list(run["mean"]) == ["nDCG@10", "R@100", "Success@10"]
    assert run["per_topic"]["nDCG@10"]["2"] == pytest.approx(0.6309297535714575, abs=1e-15)
    assert (run["topics"], run["missing"], run["unjudged"]) == (4, ["3", "4"], ["9"])


def test_markdown_escapes_names(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--qrels", "qrels", "--run", "b|c", "--measures", "P@1", "--format", "markdown"]) == 0
    assert capsys.readouterr().out == "| run | P@1 |\n| --- | ---: |\n| b\\|c | 0.7500 |\n"


def test_a_name_that_is_no_file_is_pyserini_s(
    files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lucene = pytest.importorskip("qpeft_rerank.collection.lucene")
    asked = []

    def load_qrels(name: str) -> dict[str, dict[str, int]]:
        asked.append(name)
        return {"1": {"a": 1}}

    monkeypatch.setattr(lucene, "load_qrels", load_qrels)
    assert main(["--qrels", "dl19-passage", "--run", "first.trec"]) == 0
    assert asked == ["dl19-passage"]


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--qrels", "absent.txt", "--run", "first.trec"], "absent.txt: no such qrels file"),
        (["--qrels", "qrels", "--run", "absent"], "absent: no such file"),
        (["--qrels", "qrels", "--run", "qrels"], "qrels:1: expected 6 columns"),
        (["--qrels", "first.trec", "--run", "first.trec"], "first.trec:1: expected 4 columns"),
        (["--qrels", "qrels", "--run", "first.trec", "--measures", "nDGC@10"], "nearest: nDCG@10"),
        (["--qrels", "-", "--run", "-"], "--qrels, --topics, --run: only one of them can come from stdin (-)"),
        (["--qrels", "/dev/stdin", "--run", "-"], "--qrels, --topics, --run: only one of them can come from stdin (-)"),
        (["--qrels", "-", "--run", "x", "/dev/fd/0"], "--qrels, --topics, --run: only one of them can come from stdin"),
        (["--qrels", "answers", "--run", "first.trec"], "--qrels answers: judges passages, which are not read here"),
        (["--qrels", "other", "--run", "first.trec"], "none of its topics is in the qrels"),
        (
            ["--qrels", "other", "--run", "absent", "--topics", "topics.tsv"],
            "--topics topics.tsv: none of them is in the qrels",
        ),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    files: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    (files / "other").write_text("q1 0 a 1\n")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert what in err
    assert err.count("\n") == 1
    assert err.startswith("error: ")


def test_run_from_a_pipe(files: Path) -> None:
    command = [sys.executable, "-m", "qpeft_rerank.evaluate", "--qrels", str(files / "qrels")]
    found = subprocess.run(
        [*command, "--run", "-", "--measures", "H@1"],
        input=(files / "first.trec").read_bytes(),
        capture_output=True,
        cwd=ROOT,
        check=True,
    )
    assert b"<stdin>  0.2500" in found.stdout
    empty = subprocess.run([*command, "--run", "-"], input=b"", capture_output=True, cwd=ROOT)
    assert (empty.returncode, empty.stderr[:24]) == (2, b"error: <stdin>:1: no run")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from qpeft_rerank.evaluate import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'scipy', 'pandas', 'pytrec_eval', 'torch', 'pyserini'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def test_defaults_are_known_measures() -> None:
    for name in evaluate.DEFAULT_MEASURES:
        evaluate.parse_measure(name)
