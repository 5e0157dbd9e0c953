"""``--certify``: the first ranks are float32's, whatever stopped the job, and what it cannot do is refused."""

import json
import random
from argparse import Namespace
from pathlib import Path

import peft
import pytest
import tiny
import torch

from qpeft_rerank import certify, exactness
from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import save_adapter
from qpeft_rerank.collection.passages import Passage
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.journal import Journal
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import Scorer
from qpeft_rerank.prompt import load_template
from qpeft_rerank.rerank import main
from qpeft_rerank.reranker import Reranker
from qpeft_rerank.trec.runs import Hit
from qpeft_rerank.trec.topics import Topic

WORDS = "ada wrote the first program compiler bug machine hints question passage engine fox dog quick lazy".split()
FIRST = 5


class Texts:
    """Passages in memory."""

    name = "memory"

    def __init__(self) -> None:
        chance = random.Random(3)
        self.texts = {f"d{n}": " ".join(chance.choices(WORDS, k=chance.randint(4, 20))) for n in range(60)}

    def prepare(self, docids: list[str]) -> None:
        pass

    def fetch(self, docids: list[str]) -> dict[str, Passage]:
        return {docid: Passage(docid, "", self.texts[docid]) for docid in docids if docid in self.texts}


def run_of(topics: int, depth: int) -> tuple[dict[str, list[Hit]], dict[str, Topic]]:
    chance = random.Random(5)
    listed = {str(n): Topic(str(n), " ".join(chance.choices(WORDS, k=4))) for n in range(topics)}
    run = {
        topic: [Hit(f"d{n}", 100.0 - place, place + 1) for place, n in enumerate(chance.sample(range(60), depth))]
        for topic in listed
    }
    return run, listed


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, an adapter with hints and one in its layers."""
    folder = tmp_path_factory.mktemp("models")
    source = str(tiny.save_model(folder / "model"))
    model, plain = LanguageModel.load(source, "float32", "cpu"), load_template("plain")
    save_adapter(create_adapter("qpeft-a", model, plain), model, plain, folder / "hints")
    config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"], task_type="CAUSAL_LM")
    save_adapter(PeftAdapter.create(model, config, 1), model, plain, folder / "lora")
    return folder


def reranker(folder: Path, dtype: str, adapter: str | None = None, **settings: object) -> Reranker:
    given = str(folder / adapter) if adapter else None
    return Reranker.from_pretrained(str(folder / "model"), given, dtype=dtype, device="cpu", **settings)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [None, "hints", "lora"])
@pytest.mark.parametrize("dtype", ["mixed", "bfloat16"])
def test_the_first_ranks_are_float32_s(
    folder: Path, dtype: str, adapter: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certify, "FEW", 12)
    run, topics = run_of(12, 40)
    exact = reranker(folder, "float32", adapter).rerank_run(run, topics, Texts())
    rounds: list[int] = []
    done: list[int] = []
    quick = reranker(folder, dtype, adapter)
    found = quick.certified_run(run, topics, Texts(), FIRST, progress=done.append, again=rounds.append)
    for topic, ranking in exact.run.items():
        assert [docid for docid, _ in found.run[topic][:FIRST]] == [docid for docid, _ in ranking[:FIRST]]
        assert {docid for docid, _ in found.run[topic]} == {docid for docid, _ in ranking}
    certificate = found.certificate
    assert certificate is not None and certificate.bound > 0
    assert (certificate.again, certificate.pairs) == (sum(rounds), 12 * 40)
    assert 12 == rounds[0] < certificate.again < certificate.pairs
    assert sum(done) == certificate.pairs + certificate.again
    precise = {pair[:2]: pair.score.total for pair in exact.pairs}
    errors = [abs(precise[pair[:2]] - pair.score.total) for pair in found.pairs]
    assert sum(error < 1e-3 for error in errors) >= certificate.again


def test_stopped_anywhere_and_resumed_the_result_is_the_same(folder: Path, tmp_path: Path) -> None:
    run, topics = run_of(6, 20)
    settings = {"batch_tokens": 64}
    expected = reranker(folder, "mixed", **settings).certified_run(run, topics, Texts(), FIRST)
    for stop in (1, 40, 90, 125, 150, 10**9):
        done = 0

        def progress(more: int) -> None:
            nonlocal done
            done += more
            if done > stop:  # noqa: B023
                raise KeyboardInterrupt

        with Journal(tmp_path / "journal") as journal:
            try:
                found = reranker(folder, "mixed", **settings).certified_run(
                    run, topics, Texts(), FIRST, journal=journal, progress=progress
                )
            except KeyboardInterrupt:
                continue
    assert found == expected
    lines = [json.loads(line) for line in (tmp_path / "journal").read_text().splitlines()]
    assert [line for line in lines if "run" in line] == lines[1:2]
    keys = [line["key"] for line in lines if "key" in line]
    assert len(keys) == len(set(keys))


def test_the_command_tells_what_it_took(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exactness, "FEW", 0)
    monkeypatch.setattr(exactness, "multiplies_bfloat16", lambda: True)
    assert main(command(dtype="auto", certify=1)) == 0
    assert "first 1 of each topic as in float32: 6 of 6 pairs" in capsys.readouterr().err
    certified = (tmp_path / "out.trec").read_text()
    assert main(command(output=tmp_path / "exact.trec")) == 0
    assert [line.split()[2] for line in (tmp_path / "exact.trec").read_text().splitlines()] == [
        line.split()[2] for line in certified.splitlines()
    ]


@pytest.mark.parametrize(
    ("dtype", "own", "said"),
    [
        ("mixed", True, "no more than 32 pairs"),
        ("auto", False, "this processor does not multiply bfloat16 itself"),
        ("mixed", False, "this processor does not multiply bfloat16 itself"),
    ],
    ids=["few", "processor", "processor, mixed asked for"],
)
def test_float32_at_once_where_a_certificate_would_cost_more(
    command, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch, dtype: str, own: bool, said: str
) -> None:
    monkeypatch.setattr(exactness, "multiplies_bfloat16", lambda: own)
    if not own:
        monkeypatch.setattr(exactness, "FEW", 0)
    assert main(command(dtype=dtype, certify=1)) == 0
    assert f"--certify 1: {said}, so all is scored in float32 at once" in capsys.readouterr().err
    at_once = (tmp_path / "out.trec").read_bytes()
    assert main(command(output=tmp_path / "exact.trec")) == 0
    assert (tmp_path / "exact.trec").read_bytes().splitlines() == at_once.splitlines()


def test_the_plan_tells_what_certifying_may_cost(command, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exactness, "FEW", 0)
    monkeypatch.setattr(exactness, "multiplies_bfloat16", lambda: True)
    assert main([*command(dtype="mixed", certify=1), "--dry-run"]) == 0
    assert "again in float32: up to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("precision", "device", "said"),
    [
        ("float32", "cpu", None),
        ("bfloat16", "cuda", None),
        ("mixed", "cpu", "saves no time"),
        ("bfloat16", "cpu", "takes several times as long"),
        ("int8", "cpu", "takes several times as long"),
        ("float16", "cpu", "does not multiply float16"),
    ],
)
def test_a_precision_that_the_processor_lacks_is_told(
    monkeypatch: pytest.MonkeyPatch, precision: str, device: str, said: str | None
) -> None:
    for own in ("multiplies_bfloat16", "multiplies_float16"):
        monkeypatch.setattr(exactness, own, lambda: False)
    told = exactness.notice(precision, torch.device(device))
    assert told is None if said is None else said in str(told)
    for own in ("multiplies_bfloat16", "multiplies_float16"):
        monkeypatch.setattr(exactness, own, lambda: True)
    assert exactness.notice(precision, torch.device(device)) is None


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"dtype": "float32"}, "float32 scores need no certificate"),
        ({"dtype": "mixed", "alpha": 0.5}, "leave --alpha out"),
        ({"dtype": "mixed", "compare": "none", "adapter": "smollm2-135m-a"}, "leave --compare out"),
    ],
)
def test_what_cannot_be_certified_is_refused(command, changed, said, capsys) -> None:
    assert main(command(certify=3, **changed)) == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1


def test_no_certificate_without_float32(folder: Path) -> None:
    scorer = Scorer(LanguageModel.load(str(folder / "model"), "bfloat16", "cpu"), load_template("plain"))
    with pytest.raises(InputError, match="knows no float32 scorer"):
        Reranker(scorer).certified_run(*run_of(2, 3), Texts(), FIRST)


def test_the_api_refuses_float32(folder: Path) -> None:
    with pytest.raises(InputError, match="take --dtype mixed"):
        reranker(folder, "float32").certified_run({}, {}, Texts(), FIRST)


@pytest.mark.parametrize(("own", "dtype"), [("bfloat16", "mixed"), ("float32", "float32")])
def test_a_gpu_without_bfloat16_is_asked_for_float32_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], own: str, dtype: str
) -> None:
    monkeypatch.setattr(exactness, "pick_device", torch.device)
    monkeypatch.setattr(exactness, "pick_precision", lambda asked, device: own)
    args = Namespace(certify=10, compare=[], alpha=1.0, dtype="auto", device="cuda")
    exactness.settle(args)
    assert args.dtype == dtype
    assert (
        (args.certify is None) == ("this GPU does not multiply bfloat16" in capsys.readouterr().err) == (own == dtype)
    )


def test_a_second_model_that_finds_no_memory_is_told_before_anything_is_scored(folder: Path) -> None:
    quick = reranker(folder, "bfloat16")

    def full() -> Scorer:
        raise InputError("does not fit")

    run, topics = run_of(2, 10)
    scored: list[int] = []
    with pytest.raises(InputError, match="does not fit"):
        Reranker(quick.scorer, exact=full).certified_run(run, topics, Texts(), FIRST, progress=scored.append)
    assert not scored
