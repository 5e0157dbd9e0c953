"""Qrels: round trip and faults."""

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qpeft_rerank.errors import InputError
from qpeft_rerank.trec.qrels import Qrels, read_qrels, write_qrels
from tests.advice import done_as_advised
from tests.refusal import refusal

WORDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6)


@given(qrels=st.dictionaries(WORDS, st.dictionaries(WORDS, st.integers(-2, 4), min_size=1), min_size=1, max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, qrels: Qrels) -> None:
    path = str(tmp_path_factory.mktemp("qrels") / "q.txt")
    write_qrels(path, qrels)
    assert read_qrels(path) == qrels


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("1\td2\t1", "3 columns .*awk"),
        ("1 0 d2", "3 columns"),
        ("1 0 d2 1 x", "found 5"),
        ("1 0 d2 yes", "grade 'yes'"),
        ("1 0 d2 1.0", "grade '1.0'"),
        ("1 0 d2 1_0", "grade '1_0'"),
        ("1 0 d2\0 1", "zero byte"),
        ("1 0 d2 99999999999", "beyond"),
        (f"1 0 d2 {'9' * 4000}", r"grade 9{57}\.\.\. is beyond"),
        (f"1 0 d2 {'9' * 5000}", r"grade '9{56}\.\.\. is no whole number"),
        ("1 0 d1 2", "docid d1 .* 1 before; keep one"),
    ],
)
def test_a_fault_names_file_line_and_fix(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "q.txt"
    path.write_text(f"1 0 d1 1\n\n1 0 d1 1\n{line}\n")
    with pytest.raises(InputError, match=rf"q\.txt:4: .*{what}") as caught:
        read_qrels(str(path))
    assert "\n" not in str(caught.value)


def test_qrels_of_three_columns_become_trec_s_by_what_is_advised(tmp_path: Path) -> None:
    """BEIR's have a header, others have none."""
    for header in ("query-id\tcorpus-id\tscore\r\n", ""):
        (tmp_path / "q").write_bytes(f"{header}PLAIN-2\tMED-10\t2\r\nPLAIN-2\tMED-7\t0\r\n".encode())
        advised = refusal(read_qrels, str(tmp_path / "q")).partition(": awk ")[2]
        (tmp_path / "mended").write_bytes(done_as_advised(["awk", *shlex.split(advised), "q"], tmp_path))
        assert read_qrels(str(tmp_path / "mended")) == {"PLAIN-2": {"MED-10": 2, "MED-7": 0}}


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "q").write_text("\n")
    with pytest.raises(InputError, match="q:1: no judgements"):
        read_qrels(str(tmp_path / "q"))


def test_real_qrels(shared_data: Path) -> None:
    qrels = read_qrels(str(shared_data / "dl19" / "qrels.txt"))
    assert len(qrels) == 43
    assert sum(map(len, qrels.values())) == 9260
    assert {grade for judged in qrels.values() for grade in judged.values()} == {0, 1, 2, 3}
