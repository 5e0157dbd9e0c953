"""A passage that the collection lacks is told before the model is loaded."""

import json
from pathlib import Path

import pytest

from qpeft_rerank.collection import ids
from qpeft_rerank.collection.jsonl import CorpusFile
from qpeft_rerank.collection.lucene import open_folder
from qpeft_rerank.job import Job
from qpeft_rerank.rerank import main
from tests.conftest import PASSAGES
from tests.rerank.first_stage import RUN


@pytest.mark.parametrize("source", ["corpus", "index"])
@pytest.mark.parametrize("share", ["on", "off"])
def test_it_is_told_with_its_line_before_the_model_is_loaded(
    command,
    tmp_path: Path,
    tiny_index: Path,
    source: str,
    share: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def load(self: Job) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Job, "_reranker", load)
    (tmp_path / "first.trec").write_text(RUN + "9 Q0 D404 9 0.5 x\n9 Q0 D405 9 0.4 x\n10 Q0 D404 9 0.5 x\n", "utf-8")
    options = {"corpus": None, "index": tiny_index} if source == "index" else {}
    assert main(command(**options, share_passages=share)) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"error: {tmp_path}/first.trec:9: docid D404 (topic 10) is not in ")
    assert said.endswith("; give the collection that the run was made from, or --missing skip")
    for allowed in ({"missing": "skip"}, {"depth": 2}):
        with pytest.raises(AssertionError, match="was loaded"):
            main(command(**options, **allowed))


@pytest.mark.slow
def test_an_id_that_an_analyzer_divides_is_not_taken_for_absent(tmp_path: Path) -> None:
    pytest.importorskip("jnius_config", reason="Pyserini is not installed")
    from qpeft_rerank.collection.building import build_index

    odd = ["https://en.example.org/wiki/" + "%E4%B8%AD" * 30, "𝒳" * 128, "x" * 600, "two words", "no\u00a0break"]
    (tmp_path / "corpus").mkdir()
    records = [json.dumps({"id": docid, "contents": "a machine"}) for docid in [*odd, "x" * 255]]
    (tmp_path / "corpus" / "passages.jsonl").write_text("\n".join(records) + "\n", "utf-8")
    passages = open_folder(build_index(tmp_path / "corpus", tmp_path / "index"), "odd")
    assert set(passages.fetch(odd)) == set(odd)
    assert passages.first_absent([*odd, "x" * 255]) is None
    assert passages.first_absent([*odd, "x" * 255, "absent"]) == "absent"
    for absent in ("y" * 255, odd[0] + "x", "x" * 601):
        assert passages.first_absent([*odd, absent]) == absent


@pytest.mark.parametrize("at_once", [1, 3, 1024])
def test_the_first_absent_one_is_found(
    tiny_index: Path, tiny_corpus: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ids, "_AT_ONCE", at_once)
    there = [docid for docid, _, _ in PASSAGES]
    for passages in (open_folder(tiny_index, "tiny"), CorpusFile(str(tiny_corpus))):
        assert passages.first_absent(there) is None and passages.first_absent([]) is None
        for place in range(len(there) + 1):
            some = [*there[:place], '(x)AND+"y*', *there[place:], "z"]
            assert passages.first_absent(some) == '(x)AND+"y*'
