"""Passage files: formats, streaming, and what is refused."""

import gzip
import tracemalloc
from pathlib import Path

import pytest

from qpeft_rerank.collection import jsonl
from qpeft_rerank.collection.jsonl import CorpusFile
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError

DPR = 'id\ttext\ttitle\n1\t"Aaron (or; ""Ahärôn"") is a prophet."\tAaron\n2\tplain "inner" text\t"""Weird"" Al"\n'


def write(path: Path, text: str, encoding: str = "utf-8") -> str:
    path.write_bytes(text.encode(encoding))
    return str(path)


def test_jsonl(tiny_corpus: Path) -> None:
    corpus = CorpusFile(str(tiny_corpus))
    found = corpus.fetch(["7", "40", "absent", "41", "42"])
    assert list(found) == ["7", "40", "41", "42"]
    assert found["40"] == Passage(
        "40", "Two lines", "The first line is about compilers.\nThe second line is about machines."
    )
    assert found["41"].text == ""
    assert found["42"].title == ""
    assert corpus.name == str(tiny_corpus)
    assert len(list(corpus)) == 11


def test_dpr_tsv_with_header_and_csv_quotes(tmp_path: Path) -> None:
    found = CorpusFile(write(tmp_path / "psgs.tsv", DPR)).fetch(["1", "2", "id"])
    assert found == {
        "1": Passage("1", "Aaron", 'Aaron (or; "Ahärôn") is a prophet.'),
        "2": Passage("2", '"Weird" Al', 'plain "inner" text'),
    }


def test_plain_tsv_is_verbatim(tmp_path: Path) -> None:
    path = write(tmp_path / "collection.tsv", '0\tThe "presence"\n1\t"quoted" whole"\n2\t\n')
    found = CorpusFile(path).fetch(["0", "1", "2"])
    assert [passage.text for passage in found.values()] == ['The "presence"', '"quoted" whole"', ""]


@pytest.mark.parametrize("header", ["doc_id\ttext", "passage_id\tpassage", "id\tcontents", "docno\ttext"])
def test_columns_are_called_as_the_fields_of_json(tmp_path: Path, header: str) -> None:
    path = write(tmp_path / "collection.tsv", header + '\ttitle\n0\t"a ""b"""\tT\n')
    assert CorpusFile(path).fetch(["0"]) == {"0": Passage("0", "T", 'a "b"')}


def test_a_cell_of_several_quoted_words_is_not_unquoted(tmp_path: Path) -> None:
    path = write(tmp_path / "collection.tsv", 'id\ttext\n0\t"A" and "B"\n1\t"one ""inner"" text"\n')
    found = CorpusFile(path).fetch(["0", "1"])
    assert [passage.text for passage in found.values()] == ['"A" and "B"', 'one "inner" text']


def test_gz_bom_crlf_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(gzip.compress(b'\xef\xbb\xbf{"id": 1, "text": "a"}\r\n\r\n{"id": "2", "text": "b"}\r\n'))
    assert [p.text for p in CorpusFile(str(path)).fetch(["1", "2"]).values()] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"id": "a", "text": "x"}\n{"id": "a", "text": "y"}\n', ":2: passage 'a' is also on line 1"),
        ('{"id": "b", "text": "x"}\n{"id": "a", "text": \n', ":2: broken JSON"),
        ('{"text": "x"}\n', ":1: record without an id"),
        ('{"id": "a", "url": "x"}\n', ":1: passage 'a' has no text"),
        ('{"id": "b", "text": "x"}\n[1]\n', ":2: not a JSON object"),
        ('{"id": "b", "n": ' + "1" * 5000 + ', "text": "x"}\n', ":1: JSON too deep or its numbers too long"),
        ('{"id": "b", "n": ' + "[" * 100_000 + "\n", ":1: JSON too deep or its numbers too long"),
        ("a\tx\ty\n", ":1: 3 tab-separated columns; a file with titles needs the header line"),
        ('[{"id": "a", "text": "x"}]\n', ":1: a JSON list; write one record a line"),
        ("[\n", ":1: a JSON list; write one record a line"),
        ("id\ttext\ttitle\na\tx\n", ":2: 2 tab-separated columns; expected id<TAB>text<TAB>title"),
        ("pid\tdocid\ttext\na\tD1\tx\n", ":1: the header names two columns of ids or of texts; keep one of each"),
        ("\tx\n", ":1: empty passage id"),
        ("\n\n", ": no passages in it"),
    ],
)
def test_bad_files_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path / "bad", text)
    with pytest.raises(InputError) as caught:
        CorpusFile(path).prepare(["a"])
    assert str(caught.value).startswith(path + message)
    assert "\n" not in str(caught.value)


def test_bad_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "latin.tsv"
    path.write_bytes(b"a\tfine\nb\tG\xf6del\n")
    with pytest.raises(InputError, match=r"latin\.tsv:2: "):
        CorpusFile(str(path)).prepare(["a"])


def test_missing_file_and_stdin() -> None:
    with pytest.raises(InputError, match=r"nowhere\.jsonl"):
        CorpusFile("nowhere.jsonl").fetch(["1"])
    with pytest.raises(InputError, match="give a file"):
        CorpusFile("-")


def test_a_carriage_return_may_stand_in_a_text_and_ends_no_line(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_bytes(b"1\ta\r\n2\tb\rc\r\n")
    assert CorpusFile(str(path)).fetch(["1", "2"]) == {"1": Passage("1", "", "a"), "2": Passage("2", "", "b\rc")}
    path.write_bytes(b"1\ta\r2\tb\r")
    with pytest.raises(InputError, match=r"p\.tsv:1: a carriage return within the line"):
        CorpusFile(str(path)).fetch(["1"])


def test_one_pass_serves_all_that_was_prepared(tiny_corpus: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    real = jsonl.read_lines
    monkeypatch.setattr(jsonl, "read_lines", lambda path, **how: passes.append(path) or real(path, **how))
    corpus = CorpusFile(str(tiny_corpus))
    corpus.prepare(["7", "12", "absent"])
    corpus.fetch(["7"])
    corpus.fetch(["12", "absent"])
    assert len(passes) == 1
    assert list(corpus.fetch(["3", "7"])) == ["3", "7"]
    assert len(passes) == 2


def test_memory_holds_the_wanted_only(tmp_path: Path) -> None:
    path = write(tmp_path / "big.tsv", "".join(f"{i}\t{'word ' * 200}\n" for i in range(8000)))  # 8 MB
    corpus = CorpusFile(path)
    tracemalloc.start()
    corpus.prepare(["5", "7999"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(corpus.fetch(["5", "7999"])) == 2
    assert peak < 1_000_000
