"""A job that is refused, or stopped, before its first score leaves no journal."""

from pathlib import Path

import pytest

from qpeft_rerank.job import Job
from qpeft_rerank.likelihood.joint import Methods
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.rerank import main


@pytest.mark.parametrize("output", ["out.trec", "-"])
def test_it_leaves_no_journal(
    command, tmp_path: Path, output: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QPEFT_RERANK_CACHE", str(tmp_path / "cache"))
    words = command(output="-" if output == "-" else tmp_path / output)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_config.json").write_text('{"peft_type": "QPEFT_A"}')
    assert main([*words, "--adapter", str(tmp_path / "adapter")]) == 2

    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    for owner, name in ((Job, "_reranker"), (Methods, "score")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, stop)
            assert main(words) == 130
    assert not list(tmp_path.rglob("*.journal"))
    assert main(words) == 0


def test_one_with_scores_stays(command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(command()) == 0
    scores = (tmp_path / "out.trec.journal").read_bytes()

    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Job, "_reranker", stop)
    assert main(command(overwrite=True)) == 130
    assert (tmp_path / "out.trec.journal").read_bytes() == scores


def test_one_that_was_removed_meanwhile_is_not_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, opened = tmp_path / "x.journal", []

    def hold(file: object, refusal: str) -> None:
        opened.append(file)
        if len(opened) == 1:
            path.unlink()  # by a job that had nothing to keep and ended just now

    monkeypatch.setattr("qpeft_rerank.files.hold", hold)
    with Journal(path) as journal:
        journal.begin("run")
        journal.announce(["a"])
    assert len(opened) == 2 and "writing" in path.read_text()
