"""A data folder in the benchmark's shape, a tiny model, and jobs that run in this process."""

import json
import random
from pathlib import Path

import pytest
import tiny

from eval.benchmarks import worker

WORDS = "ada wrote the first program compiler bug machine hints question passage engine fox dog quick lazy".split()


def texts(count: int, chance: random.Random, least: int, most: int) -> list[str]:
    return [" ".join(chance.choices(WORDS, k=chance.randint(least, most))) + f" {place}" for place in range(count)]


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve topics with 20 passages each; of trivia's, some passages answer many topics and some one."""
    root = tmp_path_factory.mktemp("speed-data")
    chance = random.Random(7)
    for folder, passages in (("dl19", 240), ("miniwiki", 60)):
        (root / folder).mkdir()
        with (root / folder / "corpus.jsonl").open("w") as corpus:
            for place, text in enumerate(texts(passages, chance, 3, 12)):
                corpus.write(json.dumps({"id": f"d{place}", "contents": text}) + "\n")
    questions = texts(12, chance, 2, 6)
    (root / "dl19" / "topics.tsv").write_text("".join(f"{n}\t{text}\n" for n, text in enumerate(questions)))
    lines = [
        json.dumps({"id": str(n), "question": text, "answers": ["ada"]}) + "\n" for n, text in enumerate(questions)
    ]
    (root / "miniwiki" / "topics.trivia.test.jsonl").write_text("".join(lines))
    with (root / "dl19" / "run.bm25.txt").open("w") as run, (root / "trivia.trec").open("w") as trivia:
        for topic in range(12):
            often = sorted(range(60), key=lambda place: chance.random() * (place + 1))[:20]
            for rank in range(20):
                run.write(f"{topic} Q0 d{topic * 20 + rank} {rank + 1} {50 - rank} x\n")
                trivia.write(f"{topic} Q0 d{often[rank]} {rank + 1} {50 - rank} x\n")
    return root


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.save_model(tmp_path_factory.mktemp("model") / "tiny", max_position_embeddings=1024)


@pytest.fixture
def one_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ceilings are measured by a small square and one product of each shape."""
    monkeypatch.setattr("eval.benchmarks.ceiling._SQUARES", (32,))
    monkeypatch.setattr("eval.benchmarks.ceiling._SECONDS", 0.0)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, data: Path, one_product: None) -> list[dict]:
    """Jobs run in this process, one matrix product in ceilings; the list tells which ran."""
    done: list[dict] = []

    def run_job(job: dict, python: str = "") -> dict:
        import importlib

        done.append(job)
        module = importlib.import_module(worker.KINDS[job["kind"]])
        found = json.loads(json.dumps(getattr(module, job["kind"])(job)))
        return found | {"process_wall": 2.0, "process_cpu": 1.0}

    for module in ("measurements", "rounds", "first_stage"):
        monkeypatch.setattr(f"eval.benchmarks.{module}.run_job", run_job)
    # Of a package that someone edits while the tests run.
    monkeypatch.setattr("eval.benchmarks.measurements.code_digest", lambda folder: "the same")
    monkeypatch.setattr("eval.benchmarks.first_stage.trivia_run", lambda folder, index: data / "trivia.trec")
    return done
