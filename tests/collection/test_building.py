"""An index is built whole or not at all."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qpeft_rerank.collection.building import _reason, build_index
from qpeft_rerank.collection.lucene import open_index
from tests.refusal import refusal

pytest.importorskip("jnius_config", reason="Pyserini is not installed")


@pytest.mark.slow
def test_two_builders_at_once(tiny_corpus: Path, tmp_path: Path) -> None:
    target = tmp_path / "both"
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(build_index, tiny_corpus.parent, target) for _ in range(2)]
    assert [future.result() for future in futures] == [target, target]
    assert [path.name for path in tmp_path.iterdir()] == ["both"]
    assert len(open_index(str(target))) == 11


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "indexing" in refusal(build_index, tmp_path / "absent", tmp_path / "index")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_a_place_that_cannot_be_written_is_told_with_its_fix(tmp_path: Path) -> None:
    said = refusal(build_index, tmp_path, Path("/dev/null/index"))
    assert said.startswith("cannot build an index in /dev/null: ") and "QPEFT_RERANK_CACHE" in said


def test_of_java_s_exception_the_reason_is_told() -> None:
    told = "java.lang.RuntimeException: failed\n\tat a.B.c(B.java:1)\nCaused by: java.io.IOException: No space left\n"
    assert _reason(f"{told}\tat a.D.e(D.java:2)\n\t... 12 more\n") == "Caused by: java.io.IOException: No space left"
    assert _reason("\n") == "the indexer said nothing"
