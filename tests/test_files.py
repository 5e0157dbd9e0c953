"""Files of others: JSON is read as json reads it, but for brackets so deep that newer Pythons run out of stack; locks."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank import files
from qpeft_rerank.files import held, parse_json, release
from tests.refusal import refusal

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


def test_a_file_is_held_by_one_and_goes_if_it_came_to_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for unused in (False, True):
        stream = held(path, "it is held")
        assert refusal(held, path, "it is held") == "it is held"
        stream.write(b"x")
        release(stream, path, unused)
        assert path.exists() == (not unused)
    held(path, "").close()
    other = held(path, "")
    path.rename(tmp_path / "elsewhere")
    path.write_text("another's")
    release(other, path, unused=True)
    assert path.read_text() == "another's"


def test_where_no_file_looks_like_itself_one_is_held_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "is_open", lambda stream, path: False)
    with held(tmp_path / "file", "") as stream:
        stream.write(b"kept")
    assert (tmp_path / "file").read_bytes() == b"kept"
