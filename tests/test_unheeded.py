"""An option that would do nothing beside others is refused, before anything is read."""

from pathlib import Path

import pytest

from qpeft_rerank import mine, rerank, train

RERANK = ["--run", "absent.trec", "--topics", "absent.tsv"]
MINE = ["--index", "absent", "--topics", "absent.tsv", "--output", "out.jsonl"]
TRAIN = ["--adapter", "qpeft-a", "--train", "absent.jsonl", "--output", "out"]
TRIPLES = ["--dev", "absent.jsonl"]
RUN = ["--dev-run", "absent.trec", "--dev-topics", "absent.tsv"]


@pytest.mark.parametrize(
    ("command", "words", "says"),
    [
        (rerank, [*RERANK, "--corpus", "c", "--hits", "5"], "--hits: is of the search, and --run takes its place"),
        (rerank, [*RERANK, "--corpus", "c", "--language", "de"], "--language: is of the search, and --run takes its"),
        (
            mine,
            ["--run", "r", "--corpus", "c", *MINE[2:], "--language", "de"],
            "--language: is of the search, and --run takes its place",
        ),
        (
            rerank,
            [*RERANK, "--corpus", "c", "--index", "i"],
            "--index: nothing is read of it beside --run, --corpus and",
        ),
        (rerank, [*RERANK, "--corpus", "c", "--explain-topic", "1"], "--explain-topic: is the topic of a page"),
        (mine, [*MINE, "--seed", "7"], "--seed: decides which questions are taken up to a --limit"),
        (train, [*TRAIN, "--loss", "contrastive", "--margin", "0"], "--margin: --loss contrastive has none"),
        (train, [*TRAIN, "--temperature", "0.1"], "--temperature: --loss pointwise+hinge has none"),
        (
            train,
            [*TRAIN, "--loss", "pointwise", "--negatives", "2"],
            "--negatives: --loss pointwise looks at no negatives",
        ),
        (train, [*TRAIN, "--loss", "pointwise", "--in-batch"], "--in-batch: --loss pointwise looks at no negatives"),
        (train, [*TRAIN, "--adapter", "lora", "--dataset", "nq"], "--dataset: says what the authors chose for Q-PEFT"),
        (train, [*TRAIN, "--patience", "2"], "--patience: is of dev questions; give some"),
        (train, [*TRAIN, "--dev-queries", "2"], "--dev-queries: is of dev questions; give some"),
        (train, [*TRAIN, *TRIPLES, "--dev-depth", "2"], "--dev-depth: belongs to --dev-run"),
        (train, [*TRAIN, *TRIPLES, "--dev-qrels", "q"], "--dev-qrels: belongs to --dev-run"),
        (train, [*TRAIN, *RUN, "--dev-corpus", "c", "--dev-index", "i"], "--dev-corpus and --dev-index are two places"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_it_is_refused_in_one_line(
    command, words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command.main(words) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith(f"error: {says}") and not list(tmp_path.iterdir())
