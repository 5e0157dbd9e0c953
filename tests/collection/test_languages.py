"""Indexes in other languages than English, of which nothing but ``--language`` tells."""

from pathlib import Path

import pytest

from qpeft_rerank.collection.lucene import open_index
from qpeft_rerank.collection.names import LANGUAGES
from qpeft_rerank.trec.topics import Topic
from tests.by_hand import index_by_hand
from tests.refusal import refusal

pytest.importorskip("jnius_config", reason="Pyserini is not installed")


def test_an_index_in_another_language_is_searched_in_it(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.jsonl").write_text('{"id": "d", "contents": "Die Häuser der Städte"}\n', "utf-8")
    index_by_hand(tmp_path / "texts", tmp_path / "index", "-language", "de")
    asked = {"1": Topic("1", "Haus"), "2": Topic("2", "die")}
    found = {code: dict(open_index(tmp_path / "index", code).search(asked)) for code in (None, "en", "de")}
    assert {code: [len(hits) for hits in one.values()] for code, one in found.items()} == {
        None: [0, 0],
        "en": [0, 0],
        "de": [1, 0],
    }


def test_a_language_without_analyzer_is_refused_and_what_is_offered_is_known(tiny_index: Path) -> None:
    open_index(str(tiny_index))  # which starts Java
    from jnius import autoclass

    # What Lucene knows by a code, and what Anserini merely divides into words; later versions may know more.
    known = {str(code) for code in autoclass("io.anserini.analysis.AnalyzerMap").analyzerMap.keySet().toArray()}
    assert set(LANGUAGES) <= known | {"en", "ha", "so", "sw", "yo"}
    assert refusal(open_index, "embedded", "xx").startswith(
        "language xx: Pyserini has no analyzer for it; give one of ar,"
    )
