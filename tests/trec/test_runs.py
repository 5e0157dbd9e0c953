"""Runs: round trip, trec_eval's order, and every fault with its line."""

import math
import os
import random
import struct
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qpeft_rerank.errors import InputError
from qpeft_rerank.results import RerankedRun
from qpeft_rerank.trec.runs import Hit, format_run, locate, read_run, trec_order, write_run

WORDS = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=6)
SCORES = st.floats(-1e6, 1e6, width=64)
# Few docids of different lengths and close scores, so that ties are common.
CLOSE = st.sampled_from([-25.000001, -25.0000015, -25.0, 0.0, -0.0, 1e-40, 3.3, 3.3000001])
SCORED = st.dictionaries(
    st.sampled_from(["9", "10", "1", "2", "D3", "d3", "é", "~", "Ω", "𝛀", "１"]), SCORES | CLOSE, min_size=1
)


def single(score: float) -> float:
    return struct.unpack("f", struct.pack("f", score))[0]


def test_a_line_is_located_in_a_file_and_never_in_a_pipe(tmp_path: Path) -> None:
    text = "1 Q0 a 1 2 x\n2 Q0 b 1 2 x\n"
    path = put(tmp_path, text)
    assert [locate(path, "2"), locate(path, "2", "a"), locate("-", "2")] == [f"{path}:2: ", "", ""]
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR)  # both ends, so that nobody waits here
    os.write(writer, text.encode())
    assert locate(str(pipe), "2") == ""
    assert os.read(writer, 100) == text.encode()
    os.close(writer)


def put(tmp_path: Path, text: str) -> str:
    path = tmp_path / "r.trec"
    path.write_text(text, encoding="utf-8")
    return str(path)


@given(run=st.dictionaries(WORDS, st.dictionaries(WORDS, SCORES, min_size=1), min_size=1, max_size=4))
@example(run={"1": {"9": -25.000001, "10": -25.0000015}})
def test_what_is_written_is_read_in_the_same_order_with_the_same_float32(
    tmp_path_factory: pytest.TempPathFactory, run: dict[str, dict[str, float]]
) -> None:
    path = str(tmp_path_factory.mktemp("run") / "r.gz")
    write_run(path, {topic: list(scored.items()) for topic, scored in run.items()}, "tag")
    back = read_run(path)
    assert list(back) == list(run)
    for topic, scored in run.items():
        assert [hit.rank for hit in back[topic]] == list(range(1, len(scored) + 1))
        read = [(hit.docid, single(hit.score)) for hit in back[topic]]
        assert read == trec_order(scored.items())


@given(scored=SCORED)
@example(scored={"9": -25.000001, "10": -25.0000015})
def test_order_is_the_one_of_trec_eval(scored: dict[str, float]) -> None:
    pytrec_eval = pytest.importorskip("pytrec_eval")
    ordered = [docid for docid, _ in trec_order(scored.items())]
    assert sorted(ordered) == sorted(scored)
    for rank, docid in enumerate(ordered, 1):
        # With one relevant passage the reciprocal rank tells where trec_eval put it.
        found = pytrec_eval.RelevanceEvaluator({"q": {docid: 1}}, {"recip_rank"}).evaluate({"q": scored})
        assert found["q"]["recip_rank"] == pytest.approx(1 / rank)


@given(scored=SCORED, seed=st.integers())
def test_order_depends_on_nothing_else(scored: dict[str, float], seed: int) -> None:
    shuffled = list(scored.items())
    random.Random(seed).shuffle(shuffled)
    assert trec_order(shuffled) == trec_order(trec_order(scored.items()))


def test_what_was_read_is_written(tmp_path: Path) -> None:
    run = {"q": [Hit("b", 2.5, 1), Hit("a", 1.0, 2)]}
    write_run(tmp_path / "r.gz", run, "tag")
    assert read_run(tmp_path / "r.gz") == run


def test_columns_and_nine_digits() -> None:
    lines = list(format_run({"q": [("a", 1.5), ("b", -123.456789), ("c", 20.0)]}, "me"))
    assert lines == ["q Q0 c 1 20 me\n", "q Q0 a 2 1.5 me\n", "q Q0 b 3 -123.456787 me\n"]


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf, 1e300])
def test_scores_that_no_one_can_rank_are_refused_by_name(tmp_path: Path, score: float) -> None:
    with pytest.raises(InputError, match=r"topic 7, docid d3: score .* not a finite number"):
        write_run(str(tmp_path / "r"), {"7": [("d2", 1.0), ("d3", score)]}, "t")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("run", "tag", "what"),
    [
        ({"q": [("a b", 1.0)]}, "t", "docid 'a b'"),
        ({"": [("a", 1.0)]}, "t", "topic id ''"),
        ({"q": [("a", 1.0)]}, "my tag", "tag 'my tag'"),
        ({"q": [("a", 1.0), ("a", 2.0)]}, "t", "topic q: docid a occurs twice"),
        ({1: [("a", 1.0)]}, "t", "topic id 1 is int; give a string"),
        ({"q": [("a", 1.0), (7, 2.0)]}, "t", "topic q: docid 7 is int; give a string"),
        ({"q": [("a", 1.0), (7, 1.0)]}, "t", "topic q: give .* of strings and numbers"),
        ({"q": [("a", "1.0")]}, "t", "topic q: give .* of strings and numbers"),
        ({"q": [("a", None)]}, "t", "topic q: give .* of strings and numbers"),
        ({"q": [("a", 10**400)]}, "t", "topic q: give .* of strings and numbers"),
        ({"q": ["doc"]}, "t", "topic q: give .* of strings and numbers"),
        ({"q": {"a": 1.0}}, "t", "topic q: give .* of strings and numbers"),
        ({"q": None}, "t", "topic q: give .* of strings and numbers"),
        ([("a", 1.0)], "t", "run: is list; give a mapping"),
        (RerankedRun({"q": [("a", 1.0)]}), "t", "run: is RerankedRun; give a mapping"),
    ],
)
def test_a_run_that_could_not_be_read_is_not_written(run: Any, tag: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        list(format_run(run, tag))


def test_reading_is_generous_with_white_space_and_strict_with_order(tmp_path: Path) -> None:
    text = "\ufeff2\tQ0\tb\t2\t1.0\tx\r\n\r\n  2  Q0 a 1 1e0 x\r\n1 Q0 c 9 -3 x\r\n2 Q0 d 5 7 x\r\n2 Q0 e 1 1 x"
    run = read_run(put(tmp_path, text))
    assert list(run) == ["2", "1"]
    # By score, then by the stated rank, then by line.
    assert run["2"] == [Hit("d", 7.0, 5), Hit("a", 1.0, 1), Hit("e", 1.0, 1), Hit("b", 1.0, 2)]
    assert run["1"] == [Hit("c", -3.0, 9)]


GOOD = "q Q0 a 1 2.0 t\n"


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("q Q0 b 2 1.0", "expected 6 columns .*found 5"),
        ("q Q0 my doc 2 1.0 t", "found 7; ids must not"),
        ("q Q0 b 2 high t", "score 'high' is not a finite number"),
        ("q Q0 b 2 nan t", "score 'nan'"),
        ("q Q0 b 2 -inf t", "score '-inf'"),
        ("q Q0 b 2 1_0 t", "score '1_0'"),
        ("q Q0 b second 1.0 t", "rank 'second' is not a whole number"),
        (f"q Q0 b {'9' * 5000} 1.0 t", r"rank '9{56}\.\.\. is not a whole number"),
        (f"q Q0 b 2 {'9' * 5000} t", r"score '9{56}\.\.\. is not a finite number"),
        ("q Q0 a 2 1.0 t", "docid a occurs twice for topic q"),
    ],
)
def test_a_fault_names_file_line_and_fix(tmp_path: Path, line: str, what: str) -> None:
    with pytest.raises(InputError, match=rf"r\.trec:3: .*{what}") as caught:
        read_run(put(tmp_path, f"{GOOD}\n{line}\n"))
    assert "\n" not in str(caught.value)
    assert ";" in str(caught.value)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_an_empty_run_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=r"r\.trec:\d: no run lines"):
        read_run(put(tmp_path, text))


def test_the_same_docid_in_two_topics_is_fine(tmp_path: Path) -> None:
    assert len(read_run(put(tmp_path, GOOD + GOOD.replace("q", "r")))) == 2


@pytest.mark.slow
def test_a_million_lines_take_seconds(tmp_path: Path) -> None:
    with (tmp_path / "big").open("w") as stream:
        for topic in range(1000):
            stream.writelines(f"{topic} Q0 D{n} {n + 1} {40 - n / 50:.6f} t\n" for n in range(1000))
    start = time.process_time()
    run = read_run(str(tmp_path / "big"))
    assert time.process_time() - start < 10
    assert sum(map(len, run.values())) == 1_000_000


def test_real_run_is_in_its_own_order(shared_data: Path) -> None:
    run = read_run(str(shared_data / "dl19" / "run.bm25.txt"))
    assert len(run) == 43
    for hits in run.values():
        assert [hit.rank for hit in hits] == list(range(1, 101))


def test_the_notice_that_pyserini_prints_before_a_piped_run_is_not_a_run_line(tmp_path: Path) -> None:
    notice, line = "Running dl19-passage topics, saving to /dev/stdout...\n", "1 Q0 d 1 2.0 Anserini\n"
    path = tmp_path / "piped.trec"
    path.write_text(notice + line, "utf-8")
    assert read_run(str(path)) == {"1": [Hit("d", 2.0, 1)]}
    path.write_text(line + notice, "utf-8")
    with pytest.raises(InputError, match=r"piped.trec:2: "):
        read_run(str(path))
