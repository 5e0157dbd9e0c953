"""What is read of documents that are stored with their mark-up."""

import json
from pathlib import Path

import pytest

from qpeft_rerank.collection.lucene import open_index
from qpeft_rerank.collection.passages import Passage, passage_from_raw, passage_from_record
from tests.by_hand import index_by_hand
from tests.refusal import refusal

FT = """<DOC>
<DOCNO> FT911-1 </DOCNO>
<PROFILE>_AN-BEOA7AAIFT</PROFILE>
<DATE>910514
</DATE>
<HEADLINE>
FT  14 MAY 91 / Contigas plans DM900m
east German project
</HEADLINE>
<TEXT>
CONTIGAS, the German gas group of AT&amp;T,
<!-- PJG 0012 -->
is owned by 3 < 5 <F P=106> utilities.
</TEXT>
</DOC>
"""
TITLE, TEXT = (
    "FT 14 MAY 91 / Contigas plans DM900m east German project",
    "CONTIGAS, the German gas group of AT&T, is owned by 3 < 5 utilities.",
)


def test_newswire_is_its_headline_and_its_text() -> None:
    assert passage_from_raw("d", FT) == Passage("d", TITLE, TEXT)


@pytest.mark.parametrize(
    ("raw", "title", "text"),
    [
        ("<HL> Gas </HL>\n<DD> 1/2/90 </DD>\n<LP>First.</LP>\n<TEXT>Then.</TEXT>", "Gas", "First. Then."),
        ("<HEAD>Gas</HEAD><HEAD>More</HEAD>\n<TEXT>\nIt burns.\n</TEXT>", "Gas", "It burns."),
        ("<DATE>1990</DATE>\n<TEXT>No headline.</TEXT>", "", "No headline."),
        ("<HEADLINE><P>Gas</P></HEADLINE>\n<TEXT></TEXT>", "Gas", ""),
        (
            "<!DOCTYPE html><html><head><title>Gas</title><style>p {}</style></head>"
            "<body><script>if (a < b) {}</script><h1>Gas</h1><p>It <b>burns</b>, and</p><p>warms.</p></body></html>",
            "Gas",
            "Gas It burns, and warms.",
        ),
        ("<DOCNO>d</DOCNO>\nBare words.", "", "Bare words."),
        ("<3 is a heart", "", "<3 is a heart"),
        ("<stdio.h> is a header", "", "<stdio.h> is a header"),
    ],
)
def test_shapes_of_mark_up(raw: str, title: str, text: str) -> None:
    assert passage_from_raw("d", raw) == Passage("d", title, text)


def test_pieces_of_a_newspaper_s_article_are_its_paragraphs() -> None:
    pieces = [
        {"type": "kicker", "content": "Opinions", "mime": "text/plain"},
        {"type": "title", "content": "Gas"},
        {"type": "date", "content": 1325379405000},
        None,
        {"type": "image", "fullcaption": "A flame"},
        {"type": "sanitized_html", "content": "<p>It <a href='x'>burns</a>, &amp; warms.</p>"},
        {"type": "sanitized_html", "content": ""},
        {"type": "tweet", "content": {"id": 1}},
        {"type": "sanitized_html", "content": "It ends."},
    ]
    record = {"id": "d", "title": "Gas", "contents": pieces}
    assert passage_from_record("d", record) == Passage("d", "Gas", "It burns, & warms.\nIt ends.")
    assert passage_from_raw("d", json.dumps(record)).text == "It burns, & warms.\nIt ends."
    assert "field 'contents' is list" in refusal(passage_from_record, "d", {"id": "d", "contents": ["words"]})


@pytest.mark.slow
def test_what_anserini_stores_of_newswire(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "ft.txt").write_text(FT, "utf-8")
    index_by_hand(tmp_path / "c", tmp_path / "index", "-storeRaw", collection="TrecCollection")
    assert open_index(tmp_path / "index").fetch(["FT911-1"]) == {"FT911-1": Passage("FT911-1", TITLE, TEXT)}
