"""What is mined: of a run with a passage file, and of a Lucene index."""

import json

import pytest

from qpeft_rerank import mine
from qpeft_rerank.collection.jsonl import CorpusFile
from qpeft_rerank.training import mining
from qpeft_rerank.training.data import read_training_file
from tests.mine.words import PASSAGES, command, docids, written


def test_positives_by_answers(files, capsys):
    assert mine.main(command(files, "--positives", 2)) == 0
    found = written(files)
    assert list(found) == ["t1", "t2", "t4"]
    assert found["t1"]["query"] == "what is the capital of France" and found["t1"]["answers"] == ["Paris"]
    assert docids(found["t1"], "positives") == ["d1", "d6"]
    # Neither passages with the answer nor an empty one.
    assert docids(found["t1"], "negatives") == ["d3", "d4", "d5"]
    assert found["t1"]["positives"][0] == {"docid": "d1", "title": "France", "text": PASSAGES["d1"][1]}
    assert docids(found["t2"], "positives") == ["d3"] and docids(found["t4"], "negatives") == []
    said = capsys.readouterr().err
    assert "3 of 4 topics gave triples" in said
    assert "1 topics have no positive among their candidates" in said
    assert "1 topics have a positive but no negative" in said
    assert [example.qid for example in read_training_file(str(files / "out.jsonl")).examples] == ["t1", "t2", "t4"]


def test_positives_by_qrels(files, capsys):
    (files / "qrels.txt").write_text("t1 0 d2 1\nt1 0 d3 0\nt2 0 d5 2\nt2 0 d3 1\nt3 0 d9 1\n")
    assert mine.main(command(files, "--qrels", files / "qrels.txt", "--positives", 3)) == 0
    found = written(files)
    assert list(found) == ["t1", "t2"]
    # d1 and d6 hold the answer though they are not judged: perhaps relevant, so neither.
    assert docids(found["t1"], "positives") == ["d2"] and docids(found["t1"], "negatives") == ["d3", "d4", "d5"]
    # A judged passage that was not retrieved comes after those that were.
    assert docids(found["t2"], "positives") == ["d3", "d5"] and docids(found["t2"], "negatives") == ["d1", "d4"]
    said = capsys.readouterr().err
    assert "2 passages hold an answer though qrels do not list them" in said
    assert "1 passages that qrels call relevant are not in the collection" in said  # t3's d9


def test_a_copy_of_a_judged_passage_is_no_negative(files):
    # d6 has the text of d1, which is judged but was not retrieved.
    (files / "run2.trec").write_text("t3 Q0 d6 1 2 x\nt3 Q0 d3 2 1 x\n")
    (files / "qrels.txt").write_text("t3 0 d1 1\n")
    assert mine.main(command(files, "--qrels", files / "qrels.txt", run="run2.trec")) == 0
    (record,) = written(files).values()
    assert docids(record, "positives") == ["d1"] and docids(record, "negatives") == ["d3"]


def test_the_corpus_is_read_once(files, monkeypatch):
    many = 3 * mining.BATCH
    (files / "corpus.jsonl").write_text("".join(f'{{"id": "d{i}", "text": "text {i}"}}\n' for i in range(2 * many)))
    (files / "topics.jsonl").write_text("".join(f'{{"id": "{i}", "question": "q {i}"}}\n' for i in range(many)))
    (files / "run.trec").write_text("".join(f"{i} Q0 d{i} 1 1 x\n" for i in range(many)))
    (files / "qrels.txt").write_text("".join(f"{i} 0 d{many + i} 1\n" for i in range(many)))
    readings, records = [], CorpusFile._records
    monkeypatch.setattr(CorpusFile, "_records", lambda self: readings.append(1) or records(self))
    assert mine.main(command(files, "--qrels", files / "qrels.txt")) == 0
    assert len(written(files)) == many and len(readings) == 1


def test_hits_negatives_limit(files):
    assert mine.main(command(files, "--hits", 2, "--negatives", 1, "--limit", 1, "--seed", 3)) == 0
    (record,) = written(files).values()
    assert len(record["negatives"]) <= 1
    first = (files / "out.jsonl").read_bytes()
    assert mine.main(command(files, "--hits", 2, "--negatives", 1, "--limit", 1, "--seed", 3, "--overwrite")) == 0
    assert (files / "out.jsonl").read_bytes() == first


def test_a_split_has_its_place_in_the_name(files):
    for given, expected in (
        ("dpr-nq", "dpr-nq-dev"),
        ("beir-v1.0.0-nfcorpus", "beir-v1.0.0-nfcorpus-dev"),
        ("ir_datasets:natural-questions", "ir_datasets:natural-questions/dev"),
        ("dpr.nq", "dpr.nq-dev"),
        ("a/topics.jsonl", "a/topics.dev.jsonl"),
        ("topics.nq.jsonl.gz", "topics.nq.dev.jsonl.gz"),
    ):
        assert mine._of_split(given, "dev") == expected
        assert mine._of_split(given, None) == given
    (files / "topics.jsonl").rename(files / "topics.dev.jsonl")
    assert mine.main(command(files, "--split", "dev")) == 0
    assert set(written(files)) == {"t1", "t2", "t4"}


def test_a_judged_passage_without_text_is_no_positive(files, capsys):
    (files / "qrels.txt").write_text("t1 0 d7 2\nt1 0 d1 1\nt2 0 d7 1\n")
    assert mine.main(command(files, "--qrels", files / "qrels.txt", "--positives", 3)) == 0
    found = written(files)
    assert docids(found["t1"], "positives") == ["d1"] and "t2" not in found


@pytest.mark.slow
def test_lucene_index(files):
    from qpeft_rerank.collection.building import build_index

    source = files / "source"
    source.mkdir()
    (source / "passages.jsonl").write_text(
        "".join(json.dumps({"id": d, "contents": f'"{t}"\n{x}'}) + "\n" for d, (t, x) in PASSAGES.items() if x.strip())
    )
    index = build_index(source, files / "index")
    given = ["--index", str(index), "--topics", str(files / "topics.jsonl"), "--output", str(files / "out.jsonl")]
    assert mine.main(given) == 0
    found = written(files)
    assert set(found) == {"t1", "t2", "t4"}
    assert docids(found["t1"], "positives")[0] in ("d1", "d6")
    assert found["t2"]["positives"][0]["title"] == "Rome"
    assert set(docids(found["t2"], "negatives")) <= {"d1", "d4", "d6"}
