"""Every JSON shape that collections use."""

import json

import pytest

from qpeft_rerank.collection.passages import Passage, passage_from_raw, passage_from_record, record_id
from qpeft_rerank.errors import InputError


@pytest.mark.parametrize(
    ("record", "title", "text"),
    [
        ({"id": "1", "contents": "The presence of communication."}, "", "The presence of communication."),
        ({"id": "1", "contents": '"Aaron"\nAaron is a prophet.'}, "Aaron", "Aaron is a prophet."),
        ({"id": "1", "contents": '"Aaron"\nOne.\nTwo.'}, "Aaron", "One.\nTwo."),
        ({"id": "1", "contents": '"""Weird Al"" Yankovic"\nA singer.'}, '"Weird Al" Yankovic', "A singer."),
        ({"id": "1", "contents": '"Empty"\n'}, "Empty", ""),
        ({"id": "1", "contents": "A short line.\nAnother."}, "", "A short line.\nAnother."),
        ({"id": "1", "contents": '"To be," he said.\nMore.'}, "", '"To be," he said.\nMore.'),
        ({"id": "1", "contents": '"A quotation alone"'}, "", '"A quotation alone"'),
        ({"id": "1", "title": "Aaron", "contents": "Aaron\nA prophet."}, "Aaron", "A prophet."),
        ({"id": "1", "title": "Aaron", "contents": "A prophet.\nMore."}, "Aaron", "A prophet.\nMore."),
        ({"_id": "1", "title": "T", "text": "x", "metadata": {}}, "T", "x"),
        ({"_id": "1", "title": "T", "text": '"Q"\nx'}, "T", '"Q"\nx'),
        ({"_id": "1", "title": None, "text": "x"}, "", "x"),
        ({"pid": "1", "passage": "v2 passage"}, "", "v2 passage"),
        ({"docid": "1", "title": "T", "segment": "v2.1", "headings": "h"}, "T", "v2.1"),
        ({"id": "1", "contents": ""}, "", ""),
    ],
)
def test_shapes(record: dict[str, object], title: str, text: str) -> None:
    assert passage_from_record("1", record) == Passage("1", title, text)
    assert passage_from_raw("1", json.dumps(record)) == Passage("1", title, text)


def test_raw_that_is_no_record_is_text() -> None:
    assert passage_from_raw("1", "plain words") == Passage("1", "", "plain words")
    assert passage_from_raw("1", "{curly} words") == Passage("1", "", "{curly} words")


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        (
            {"id": "1", "vector": [1]},
            "'x' has no text; add a field 'contents' or 'text' (fields: id, vector)",
        ),
        ({"id": "1", "text": 7}, "field 'text' is int; it must be a string"),
        ({"id": "1", "text": "t", "title": ["a"]}, "field 'title' is list"),
    ],
)
def test_bad_records(record: dict[str, object], fault: str) -> None:
    with pytest.raises(InputError) as caught:
        passage_from_record("x", record)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("record", "docid"),
    [({"id": "a"}, "a"), ({"_id": 7}, "7"), ({"id": True}, None), ({"id": " "}, None), ({"text": "x"}, None)],
)
def test_ids(record: dict[str, object], docid: str | None) -> None:
    assert record_id(record) == docid


def test_a_passages_own_id_goes_before_its_documents() -> None:
    record = {"pid": "msmarco_passage_01_1", "passage": "x", "spans": "", "docid": "msmarco_doc_01_9"}
    assert record_id(record) == "msmarco_passage_01_1"
