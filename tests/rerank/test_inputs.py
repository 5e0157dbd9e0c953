"""No output takes the place of what its own job reads, whatever ``--overwrite`` says."""

import shutil
from pathlib import Path

import pytest

from qpeft_rerank.rerank import main
from tests.rerank.first_stage import RUN


@pytest.fixture
def named(command, tmp_path: Path, tiny_corpus: Path, tiny_topics: Path, model: str) -> dict[str, Path]:
    """The files of a good command, in copies that may be lost."""
    copies = {"corpus": tmp_path / "corpus.jsonl", "topics": tmp_path / "topics.tsv", "model": tmp_path / "model"}
    shutil.copy(tiny_corpus, copies["corpus"])
    shutil.copy(tiny_topics, copies["topics"])
    shutil.copytree(model, copies["model"])
    copies["qrels"] = tmp_path / "qrels"
    copies["qrels"].write_text("10 0 30 1\n")
    copies["prompt"] = tmp_path / "own.yaml"
    copies["prompt"].write_text('passage: "{passage}"\nquestion: "\\nQuestion:"\ntarget: " {query}"\n')
    return copies


@pytest.mark.parametrize("output", ["output", "scores", "explain"])
@pytest.mark.parametrize("read", ["run", "corpus", "topics", "qrels", "prompt", "model"])
def test_an_input_is_kept(
    command, named: dict[str, Path], tmp_path: Path, output: str, read: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named["run"] = tmp_path / "first.trec"
    source = named[read] / "config.json" if read == "model" else named[read]
    before = source.read_bytes()
    (tmp_path / "link").symlink_to(source)
    for place in (source, tmp_path / "link", f"{source.parent}/./{source.name}"):
        assert main(command(**{**named, output: place}, overwrite=True)) == 2
        said = f"error: --{output} {place}: is an input of this job (--{read}); name another file\n"
        assert capsys.readouterr().err == said
    assert source.read_bytes() == before and not (tmp_path / "out.trec").exists()


def test_a_compared_run_keeps_inputs_too(
    command, named: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "QPEFT_A"}')
    first = tmp_path / "out.ql-plain-model.trec"
    first.write_text(RUN)
    options = {"model": named["model"], "adapter": adapter, "compare": "none", "overwrite": True}
    assert main(command(run=first, **options)) == 2
    assert f"--compare {first}: is an input of this job (--run)" in capsys.readouterr().err
    assert main(command(**options, scores=adapter / "adapter_config.json")) == 2
    assert "adapter_config.json: is an input of this job (--adapter)" in capsys.readouterr().err
    assert first.read_text() == RUN


def test_a_file_beside_a_model_s_own_is_no_input(command, named: dict[str, Path]) -> None:
    output = named["model"] / "out.trec"
    for _ in range(2):
        assert main(command(model=named["model"], output=output, overwrite=True)) == 0
