"""Hits of a real BM25 run are those that Pyserini's own DPR evaluation counts.

The development data's README gives BM25 figures over more questions than it holds, and labels made from
answers before they were tokenised, so those cannot be had again exactly; an independent judge of the
same run can.
"""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from eval import reproduce
from qpeft_rerank.collection.jsonl import CorpusFile
from qpeft_rerank.trec.runs import read_run
from qpeft_rerank.trec.topics import read_topics

SETS = ("nq", "webq")
CUTS = (5, 10, 20, 50)


@pytest.mark.slow
def test_hits_are_pyserinis(shared_data, tmp_path):
    import pandas

    spec = importlib.util.find_spec("pyserini")
    data = shared_data / "miniwiki"
    if spec is None or not data.is_dir():
        pytest.skip("needs Pyserini and miniwiki among the development data")
    script = Path(spec.submodule_search_locations[0]) / "eval" / "evaluate_dpr_retrieval.py"
    words = ["--table", "curves", "--methods", "first-stage", "--datasets", *SETS, "--topics", "0", "--depth", "50"]
    where = ["--data", str(data), "--work", str(tmp_path / "work"), "--results", str(tmp_path / "out")]
    assert reproduce.main([*words, *where]) == 0
    table = pandas.read_csv(tmp_path / "out" / "curves" / "table.csv")
    ours = table[table.convention == "full"].set_index(["dataset", "measure"])["mean"]
    corpus = CorpusFile(str(data / "corpus.jsonl"))
    for path in (tmp_path / "work" / "steps").glob("retrieve-*/step.json"):
        name = json.loads(path.read_text())["label"].split(".")[0]
        topics = read_topics(str(data / f"topics.{name}.test.jsonl"))
        run = read_run(str(path.parent / "run.trec"))
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
