"""Stop words and wordless tokens, for tokenizers of three kinds."""

import pytest
import tiny

from qpeft_rerank.adapters.tokens import token_tables


def ids_of(tokenizer, strings):
    return {tokenizer.convert_tokens_to_ids(string) for string in strings} - {tokenizer.unk_token_id, None}


@pytest.mark.parametrize(("kind", "mark"), [("bytes", "Ġ"), ("llama", "▁"), ("gemma", "▁")])
def test_decoded(kind, mark):
    tokenizer = tiny.tokenizer(kind)
    tables = token_tables(tokenizer, 512, "decoded")
    marked = ids_of(tokenizer, [f"{mark}the"])
    assert marked and marked <= tables.stop
    assert ids_of(tokenizer, ["a", "s", "t"]) <= tables.stop
    assert ids_of(tokenizer, [f"{mark}compiler", "b"]).isdisjoint(tables.stop | tables.wordless)
    assert ids_of(tokenizer, [",", "!", ":", "0"]) <= tables.wordless
    assert {0, 1, 2, 511} <= tables.special
    assert tables.dropped("") == tables.special
    assert tables.dropped("sa") == tables.special | tables.stop | tables.wordless


def test_raw_is_what_the_authors_do():
    tokenizer = tiny.tokenizer("llama")
    tables = token_tables(tokenizer, 512, "raw")
    assert ids_of(tokenizer, ["▁the"]).isdisjoint(tables.stop)  # D10
    assert ids_of(tokenizer, ["a", "s"]) <= tables.stop
    assert tables.special == {1, 2}


def test_letters_of_any_script_count():
    tokenizer = tiny.tokenizer("bytes")
    tables = token_tables(tokenizer, 512, "decoded")
    assert set(tokenizer("é日", add_special_tokens=False)["input_ids"]).isdisjoint(tables.wordless)
    raw = token_tables(tokenizer, 512, "raw")
    assert set(tokenizer("\n", add_special_tokens=False)["input_ids"]) <= tables.wordless & raw.wordless
