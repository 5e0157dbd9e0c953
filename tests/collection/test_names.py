"""Aliases, defaults and spellings, without Pyserini."""

import pytest

from qpeft_rerank.collection.names import (
    bm25_parameters,
    canonical_index_name,
    default_topics,
    query_language,
    same_name,
    suggestion,
)


def test_aliases_and_default_topics() -> None:
    assert canonical_index_name("msmarco-passage") == "msmarco-v1-passage"
    assert canonical_index_name("wikipedia-dpr") == "wikipedia-dpr-100w"
    assert canonical_index_name("beir-v1.0.0-nq.flat") == "beir-v1.0.0-nq.flat"
    assert default_topics("msmarco-passage") == "dl19-passage"
    assert default_topics("wikipedia-dpr") == "dpr-nq-test"
    assert default_topics("msmarco-v1-passage-slim") == "dl19-passage"
    assert default_topics("embedded") == "embedded"
    assert default_topics("some/folder") is None


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("msmarco-passage", (0.82, 0.68)),
        ("msmarco-v1-passage", (0.82, 0.68)),
        ("msmarco-v1-passage-slim", (0.82, 0.68)),
        ("msmarco-v1-doc-full", (4.46, 0.82)),
        ("msmarco-v1-passage.d2q-t5", (2.18, 0.86)),
        ("wikipedia-dpr-100w", (0.9, 0.4)),
        ("wikipedia-dpr", (0.9, 0.4)),
        ("msmarco-v2-passage", (0.9, 0.4)),
    ],
)
def test_bm25_parameters(index: str, expected: tuple[float, float]) -> None:
    assert bm25_parameters(index) == expected


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ("miracl-v1.0-zh", "zh"),
        ("mrtydi-v1.1-ar", "ar"),
        ("mrtydi-v1.1-arabic", "ar"),
        ("ciral-v1.0-ha", "ha"),
        ("ciral-v1.0-ha-en", "en"),
        ("neuclir22-fa", "fa"),
        ("neuclir22-fa-en", "en"),
        ("msmarco-v1-passage", "en"),
        ("wikipedia-dpr-100w", "en"),
        ("my/index-zh", "en"),
    ],
)
def test_query_language(index: str, expected: str) -> None:
    assert query_language(index) == expected


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("dpr.nq.test", "dpr-nq-test"),
        ("dpr-nq-test", "dpr-nq-test"),
        ("msmarco-passage.dev-subset", "msmarco-passage-dev-subset"),
        ("beir-v1.0.0-nq.test", "beir-v1.0.0-nq-test"),
        ("dpr.nq.tset", None),
    ],
)
def test_new_spellings_find_old_names(given: str, known: str | None) -> None:
    names = ["dpr-nq-test", "nq-test", "msmarco-passage-dev-subset", "beir-v1.0.0-nq-test"]
    assert same_name(given, names) == known


def test_old_spellings_find_new_names() -> None:
    assert same_name("dpr-wq-test", ["dpr.wq.test"]) == "dpr.wq.test"
    assert same_name("msmarco-passage-dev-subset", ["msmarco-passage.dev-subset"]) == "msmarco-passage.dev-subset"


def test_suggestion() -> None:
    assert suggestion("msmarco-pasage", ["msmarco-passage", "robust04"]) == "; did you mean msmarco-passage?"
    assert suggestion("zzz", ["robust04"]) == ""


def test_names_that_go_on_from_what_was_typed_are_suggested_first() -> None:
    known = ["dl19-doc", "dl20-doc", "dl20-passage", "dl21"]
    assert suggestion("dl20", known) == "; did you mean dl20-doc, dl20-passage, dl21?"
    assert suggestion("dl20-pasage", known).startswith("; did you mean dl20-passage")
    assert suggestion("zzz", known) == ""
