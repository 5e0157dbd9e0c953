"""A first stage that the command searches for itself."""

from pathlib import Path

import pytest

from qpeft_rerank.rerank import main

pytest.importorskip("jnius_config", reason="Pyserini is not installed")

UNFOUND = "1 topics found nothing and are not in the run: "


def test_topics_that_find_nothing_are_told(
    command, tiny_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(run=None, corpus=None, index=tiny_index)) == 0
    assert f"{UNFOUND}12\n" in capsys.readouterr().err
    run = (tmp_path / "out.trec").read_text("utf-8").splitlines()
    assert {line.split()[0] for line in run} == {"9", "10", "11", "100"}


def test_an_index_is_searched_in_its_language(
    command, tiny_index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In Yoruba, queries are cut into words alone, while the index has those of English in lower case."""
    (tmp_path / "topics.tsv").write_text("1\tEnigma\n2\tenigma\n")
    assert main(command(run=None, corpus=None, index=tiny_index, topics=tmp_path / "topics.tsv", language="yo")) == 0
    assert f"{UNFOUND}1\n" in capsys.readouterr().err
