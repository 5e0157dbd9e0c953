"""JSON of others: read as json reads it, but for brackets so deep that newer Pythons run out of stack."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.files import parse_json

TEXT = st.text(st.sampled_from('a"\\[]{}:, \n'), max_size=40)
VALUES = st.recursive(TEXT, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(TEXT, inner, max_size=5))


@given(VALUES, st.integers(0, 3))
def test_is_read_as_json_reads_it(value: object, indent: int) -> None:
    # Enough brackets in all that their depth is looked at.
    text = json.dumps([value, [[]] * 600, "[" * 600, '"[{' * 600], indent=indent)
    assert parse_json(text) == json.loads(text)


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}"), ('[{"[": ', "}]")])
def test_brackets_without_end(opened: str, closed: str) -> None:
    for text in (opened * 100_000, opened * 1000 + "1" + closed * 1000, '"\\"", ' + opened * 600):
        with pytest.raises(RecursionError):
            parse_json(text)
    assert parse_json(opened * 240 + "1" + closed * 240) == json.loads(opened * 240 + "1" + closed * 240)
    with pytest.raises(ValueError):
        parse_json(opened * 240 + "1")
