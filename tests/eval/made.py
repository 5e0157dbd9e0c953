"""A work folder of finished steps whose runs are made up: reports need no model, and figures look like real ones."""

import contextlib
import json
import math
import random
from collections.abc import Iterable
from pathlib import Path

from eval import candidates, judge, sample
from eval.chain import Chain
from eval.conditions import Condition
from eval.steps import Step, ordered
from eval.store import Store
from qpeft_rerank import evaluate
from qpeft_rerank.adapters.find import CONFIG, WEIGHTS
from qpeft_rerank.trec.qrels import write_qrels
from qpeft_rerank.trec.runs import read_run, write_run
from qpeft_rerank.trec.topics import read_topics

# How many nats a relevant passage has above others.
SKILL = {"zero-shot": 2.0, "zero-shot-upr": 1.7, "hints-untrained": 1.5, "hints-random": 1.8, "soft-prompt": 2.1}
SKILL |= {"lora": 2.6, "qpeft-r": 2.4, "qpeft-a": 2.9}


def data_folder(folder: Path, sets: Iterable[str], topics: int, title: str = "question") -> Path:
    """A folder in the shape of scale mini."""
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"id": "p0", "contents": "a passage"}\n')
    for name in sets:
        for split, count in (("train", 8), ("dev", topics // 2), ("test", topics)):
            lines = [
                json.dumps({"id": f"{name}-{split}-{n}", "question": f"{title} {n} of {name}", "answers": ["a"]})
                for n in range(count)
            ]
            (folder / f"topics.{name}.{split}.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def graded_folder(folder: Path, topics: int, depth: int) -> Path:
    """A set with grades 0 to 3 beside a data folder, as scale mini takes TREC DL 2019."""
    folder.mkdir()
    (folder / "corpus.jsonl").write_text('{"id": "p0", "contents": "a passage"}\n')
    (folder / "topics.tsv").write_text("".join(f"{n}\tquestion {n}\n" for n in range(topics)))
    run, qrels = [], []
    for topic in map(str, range(topics)):
        draw = random.Random(f"graded {topic}")
        for rank in range(depth):
            run.append(f"{topic} Q0 p{rank} {rank + 1} {depth - rank}.5 made\n")
            qrels.append(f"{topic} Q0 p{rank} {draw.choice((0, 0, 0, 1, 2, 3))}\n")
        qrels.append(f"{topic} Q0 unretrieved 3\n")
    (folder / "run.bm25.txt").write_text("".join(run))
    (folder / "qrels.txt").write_text("".join(qrels))
    return folder


def finish(conditions: Iterable[Condition], chain: Chain, store: Store, dev: bool = False) -> None:
    """Make every step behind conditions look finished; with ``dev`` their dev runs, too."""
    conditions = list(conditions)
    last = [chain.evaluation(condition) for condition in conditions]
    if dev:
        rerankers = [condition for condition in conditions if condition.method.kind != "first-stage"]
        last += [step(one, "dev") for one in rerankers for step in (chain.rerank, chain.judgements)]
    for step in ordered(last):
        if not store.is_done(step):
            store.begin(step)
            _MAKERS[step.kind](step, store.work)
            store.finish(step, 1.0, 10**9)


def _flag(step: Step, work: Path, name: str) -> str:
    words = step.command(work)
    return words[words.index(name) + 1]


def _relevant(topic: str, docid: str) -> bool:
    draw = random.Random(f"{topic} share")
    share = 0.0 if draw.random() < 0.15 else 0.04 + 0.2 * draw.random() ** 2
    return random.Random(f"{topic} {docid}").random() < share


def _index(step: Step, work: Path) -> None:
    step.place(work).mkdir()
    (step.place(work) / "segments_1").write_text("")


def _sample(step: Step, work: Path) -> None:
    with contextlib.redirect_stderr(None):
        assert sample.main(step.command(work)[2:]) == 0


def _retrieve(step: Step, work: Path) -> None:
    hits = int(_flag(step, work, "--hits"))
    run = {}
    for topic in read_topics(_flag(step, work, "--topics")):
        draw = random.Random(topic)
        docids = [f"p{n}" for n in range(hits)]
        run[topic] = [(d, 12 + draw.gauss(0, 2) + 1.2 * _relevant(topic, d)) for d in docids]
    write_run(str(step.place(work)), run, "made")


def _candidates(step: Step, work: Path) -> None:
    with contextlib.redirect_stderr(None):
        assert candidates.main(step.command(work)[2:]) == 0


def _judge(step: Step, work: Path) -> None:
    if "--qrels" in step.command(work):
        with contextlib.redirect_stderr(None):
            assert judge.main(step.command(work)[2:]) == 0
        return
    run = read_run(_flag(step, work, "--run"))
    qrels = {topic: {hit.docid: int(_relevant(topic, hit.docid)) for hit in hits} for topic, hits in run.items()}
    write_qrels(str(step.place(work)), qrels)


def _rerank(step: Step, work: Path) -> None:
    run = read_run(_flag(step, work, "--run"))
    method, _, variant = step.label.split(",")[0].split(".", 2)[2].partition(".")
    value = random.Random(variant).gauss(0, 0.3) if variant else 0.0
    new = {}
    for topic, hits in run.items():
        draw = random.Random(f"{topic} {method} {variant}")
        length = 15 + 10 * random.Random(topic).random()
        new[topic] = [
            (
                hit.docid,
                0.3 * hit.score
                - length
                + draw.gauss(0, 1.3)
                + (SKILL.get(method, 2.0) + value) * _relevant(topic, hit.docid),
            )
            for hit in hits
        ]
    write_run(str(step.place(work)), new, "made")


def _adapter(step: Step, work: Path) -> None:
    folder = step.place(work)
    folder.mkdir()
    (folder / CONFIG).write_text(json.dumps({"made": step.key}))
    (folder / WEIGHTS).write_bytes(b"weights")
    if step.kind != "train":
        return
    draw = random.Random(step.key)
    epochs, steps = 5, 40
    rows = ["step,epoch,loss,lr,grad_norm,tokens,seconds,dev"]
    dev = [0.42]
    rows.append(f"0,0,,,,,,{dev[0]}")
    for epoch in range(1, epochs + 1):
        for place in range(steps):
            number = (epoch - 1) * steps + place + 1
            rows.append(f"{number},{epoch},{2 * math.exp(-number / 80) + draw.random():.4f},0.001,1,9,1,")
        dev.append(0.42 + 0.04 * epoch * math.exp(-epoch / 4) + draw.gauss(0, 0.01))
        rows.append(f"{epoch * steps},{epoch},,,,,,{dev[-1]:.4f}")
    (folder / "log.csv").write_text("\n".join(rows) + "\n")
    best = max(range(len(dev)), key=dev.__getitem__)
    record = {"dev_by_epoch": dev, "epoch": best, "dev": {"dev MRR@10, zero-shot": 0.45}, "parameters": 1_000_000}
    (folder / "training.json").write_text(json.dumps(record))


def _mine(step: Step, work: Path) -> None:
    step.place(work).write_text("{}\n")


def _evaluate(step: Step, work: Path) -> None:
    with step.place(work).open("w") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(None):
        assert evaluate.main(step.command(work)[2:]) == 0


_MAKERS = {
    "index": _index,
    "sample": _sample,
    "retrieve": _retrieve,
    "candidates": _candidates,
    "judge": _judge,
    "rerank": _rerank,
    "untrained": _adapter,
    "train": _adapter,
    "mine": _mine,
    "evaluate": _evaluate,
}
