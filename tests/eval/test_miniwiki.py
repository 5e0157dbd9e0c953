"""Hits of a real BM25 run are those that Pyserini's own DPR evaluation counts, and those the data's README tells.

The README's figures are over more questions than the data holds, with labels made from answers before they
were tokenised, so they can be had again only as near as a sample allows; an independent judge of the same run
agrees exactly.
"""

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from eval import reproduce
from qpeft_rerank import evaluate
from qpeft_rerank.collection.jsonl import CorpusFile
from qpeft_rerank.trec.runs import read_run
from qpeft_rerank.trec.topics import read_topics

SETS = ("nq", "webq")
CUTS = (5, 10, 20, 50)


@pytest.fixture
def miniwiki(shared_data):
    folder = shared_data / "miniwiki"
    if importlib.util.find_spec("pyserini") is None or not folder.is_dir():
        pytest.skip("needs Pyserini and miniwiki among the development data")
    return folder


def first_stages(data, tmp_path, *words):
    """Retrieve, judge and evaluate all test questions; the steps' folders by (kind, set)."""
    asked = ["--table", "curves", "--methods", "first-stage", "--topics", "0", *words]
    where = ["--data", str(data), "--work", str(tmp_path / "work"), "--results", str(tmp_path / "out")]
    assert reproduce.main([*asked, *where]) == 0
    steps = {}
    for path in (tmp_path / "work" / "steps").glob("*/step.json"):
        record = json.loads(path.read_text())
        steps[record["kind"], record["label"].split(".")[0]] = path.parent
    return steps


@pytest.mark.slow
def test_hits_are_pyserinis(miniwiki, tmp_path):
    import pandas

    script = Path(importlib.util.find_spec("pyserini").submodule_search_locations[0]) / "eval/evaluate_dpr_retrieval.py"
    steps = first_stages(miniwiki, tmp_path, "--datasets", *SETS, "--depth", "50")
    table = pandas.read_csv(tmp_path / "out" / "curves" / "table.csv")
    ours = table[table.convention == "full"].set_index(["dataset", "measure"])["mean"]
    corpus = CorpusFile(str(miniwiki / "corpus.jsonl"))
    for name in SETS:
        topics = read_topics(str(miniwiki / f"topics.{name}.test.jsonl"))
        run = read_run(str(steps["retrieve", name] / "run.trec"))
        corpus.prepare([hit.docid for hits in run.values() for hit in hits])
        entries = {}
        for topic in topics.values():
            texts = [corpus.fetch([hit.docid])[hit.docid].text for hit in run.get(topic.id, [])]
            contexts = [{"text": f"title\n{text}"} for text in texts]
            entries[topic.id] = {"question": topic.text, "answers": list(topic.answers), "contexts": contexts}
        (tmp_path / f"{name}.json").write_text(json.dumps(entries))
        command = [sys.executable, str(script), "--retrieval", str(tmp_path / f"{name}.json")]
        done = subprocess.run([*command, "--topk", *map(str, CUTS)], check=True, capture_output=True, text=True)
        theirs = {line.split()[0]: float(line.split()[-1]) for line in done.stdout.splitlines()}
        assert {f"Top{k}": round(ours[name, f"H@{k}"] / 100, 4) for k in CUTS} == theirs


@pytest.fixture
def whole(miniwiki, tmp_path):
    """The data folder, where WebQuestions' test questions are all 580: the README's figure is over those."""
    folder = tmp_path / "data"
    folder.mkdir()
    for path in miniwiki.iterdir():
        if path.name != "topics.webq.test.jsonl":
            (folder / path.name).symlink_to(path)
    parts = [(miniwiki / f"topics.webq.{part}.jsonl").read_text(encoding="utf-8") for part in ("train", "dev", "test")]
    (folder / "topics.webq.test.jsonl").write_text("".join(parts), encoding="utf-8")
    return folder


@pytest.mark.slow
def test_first_stage_is_the_readmes(whole, shared_data, tmp_path, capsys):
    told = dict(
        re.findall(
            r"(nq|trivia|webq|squad)(?: test)? (\d+\.\d+(?:/\d+\.\d+){3})", (shared_data / "README.md").read_text()
        )
    )
    assert set(told) == {"nq", "trivia", "webq", "squad"}
    steps = first_stages(whole, tmp_path, "--depth", "20")
    for name, figures in told.items():
        topics = whole / f"topics.{name}.test.jsonl"
        files = ["--qrels", str(steps["judge", name] / "qrels.txt"), "--run", str(steps["retrieve", name] / "run.trec")]
        capsys.readouterr()
        asked = ["--topics", str(topics), "--measures", "H@1", "H@5", "H@10", "H@20", "--format", "json"]
        assert evaluate.main([*files, *asked]) == 0
        ours = json.loads(capsys.readouterr().out)["runs"][0]["mean"]
        count = len(read_topics(str(topics)))
        for cut, figure in zip((1, 5, 10, 20), figures.split("/"), strict=True):
            share = float(figure) / 100
            # Two standard errors of a share of so many questions: what another sample of them may differ by.
            assert abs(ours[f"H@{cut}"] - share) <= 2 * math.sqrt(share * (1 - share) / count), (name, cut)
