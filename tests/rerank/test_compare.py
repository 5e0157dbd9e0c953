"""``--compare``: a row and a run for each method, and what is refused before anything is computed."""

import dataclasses
import json
from pathlib import Path

import peft
import pytest
import tiny
import torch

from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import create_adapter
from qpeft_rerank.adapters.store import save_adapter
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.prompt import load_template
from qpeft_rerank.rerank import main
from qpeft_rerank.reranker import Reranker
from qpeft_rerank.trec.runs import read_run
from tests.rerank.first_stage import RUN


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model ``tiny-llama`` and adapters for it: two with hints, one under another prompt, two in its layers."""
    folder = tmp_path_factory.mktemp("models")
    source = str(tiny.save_model(folder / "tiny-llama"))
    model = LanguageModel.load(source, "float32", "cpu")
    plain = load_template("plain")
    for name, kind, prompt in (
        ("hints-r", "qpeft-r", "plain"),
        ("hints-a", "qpeft-a", "plain"),
        ("q", "qpeft-a", "qpeft"),
    ):
        template = load_template(prompt)
        save_adapter(create_adapter(kind, model, template), model, template, folder / name)
    for seed, name in enumerate(("lora", "lora-2")):
        changed = LanguageModel.load(source, "float32", "cpu")
        config = peft.LoraConfig(r=4, init_lora_weights=False, target_modules=["q_proj"], task_type="CAUSAL_LM")
        save_adapter(PeftAdapter.create(changed, config, seed), changed, plain, folder / name)
    return folder


@pytest.fixture
def command(tmp_path: Path, tiny_corpus: Path, tiny_topics: Path, folder: Path):
    """The arguments of a good command on ``out.trec``; a test adds to them."""
    (tmp_path / "first.trec").write_text(RUN, "utf-8")
    (tmp_path / "qrels").write_text("10 0 30 1\n9 0 7 2\n", "utf-8")

    def arguments(adapter: str | None, compare: list[str], output: object = "out.trec", *more: str) -> list[str]:
        words = ["--run", str(tmp_path / "first.trec"), "--corpus", str(tiny_corpus), "--topics", str(tiny_topics)]
        words += ["--model", str(folder / "tiny-llama"), "--dtype", "float32", "--device", "cpu", "--measures", "RR"]
        words += [
            "--qrels",
            str(tmp_path / "qrels"),
            "--output",
            output if output == "-" else str(tmp_path / str(output)),
        ]
        words += ["--adapter", str(folder / adapter)] if adapter else []
        words += ["--compare", *(name if name == "none" else str(folder / name) for name in compare)] if compare else []
        return [*words, *more]

    return arguments


def scores(path: Path) -> dict[tuple[str, str], float]:
    return {(topic, hit.docid): hit.score for topic, hits in read_run(str(path)).items() for hit in hits}


def test_every_method_has_its_row_and_the_run_of_its_own_job(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    compared = ["none", "lora", "hints-r", "lora-2", "q"]
    assert main(command("hints-a", compared)) == 0
    told = capsys.readouterr()
    table = told.out.splitlines()
    called = {name: f"{'ql-plain' if name == 'none' else name}-tiny-llama" for name in [*compared, "hints-a"]}
    assert [line.rsplit(maxsplit=1)[0] for line in table[-7:]] == ["first stage", *called.values()]
    rows = dict(line.rsplit(maxsplit=1) for line in table[-7:])
    files = {name: tmp_path / f"out.{called[name]}.trec" for name in compared} | {"hints-a": tmp_path / "out.trec"}
    for name, path in files.items():
        assert f"wrote {path}" in told.err
        assert {line.split()[-1] for line in path.read_text("utf-8").splitlines()} == {called[name]}
        alone = tmp_path / f"{name}.alone"
        assert main(command(None if name == "none" else name, [], alone.name)) == 0
        assert capsys.readouterr().out.splitlines()[-1].split() == [called[name], rows[called[name]]]
        assert scores(path) == pytest.approx(scores(alone), abs=2e-3)
    assert len({tuple(scores(path).values()) for path in files.values()}) == 6


def test_each_way_tells_how_many_passages_it_cut(command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("hints-a", ["none", "q"], "out.trec", "--max-passage-tokens", "12")) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "were cut" in line]
    assert told == [
        "5 passages were cut to fit under ql-plain-tiny-llama",
        "5 passages were cut to fit under q-tiny-llama",
        "5 passages were cut to fit; --scores tells which",
    ]
    # One that no way cuts is told of by none.
    assert main(command("hints-a", ["none"], "whole.trec")) == 0
    assert "were cut" not in capsys.readouterr().err


def test_a_later_comparison_goes_on_from_the_journal(command, tmp_path: Path) -> None:
    assert main(command("hints-a", [])) == 0
    before = (tmp_path / "out.trec").read_bytes()
    assert (tmp_path / "out.trec.journal").read_text("utf-8").count('"sum"') == 6
    assert main(command("hints-a", ["none"], "out.trec", "--overwrite")) == 0
    assert (tmp_path / "out.trec").read_bytes() == before
    assert (tmp_path / "out.trec.journal").read_text("utf-8").count('"sum"') == 12


def test_a_job_stopped_between_its_runs_goes_on(command, tmp_path: Path) -> None:
    assert main(command("hints-a", ["none"])) == 0
    whole = [path.read_bytes() for path in (tmp_path / "out.trec", tmp_path / "out.ql-plain-tiny-llama.trec")]
    (tmp_path / "out.trec").unlink()
    assert main(command("hints-a", ["none"])) == 0
    assert [path.read_bytes() for path in (tmp_path / "out.trec", tmp_path / "out.ql-plain-tiny-llama.trec")] == whole


def test_a_file_that_no_stopped_job_wrote_is_kept(command, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("hints-a", ["none"])) == 0
    (tmp_path / "out.trec").unlink()
    (tmp_path / "out.ql-plain-tiny-llama.trec").write_text("precious\n")
    assert main(command("hints-a", ["none"])) == 2
    assert "exists; add --overwrite" in capsys.readouterr().err
    assert (tmp_path / "out.ql-plain-tiny-llama.trec").read_text() == "precious\n"


def test_no_adapter_has_a_name(command, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(None, [])) == 0
    assert main(command(None, [], "named.trec", "--adapter", "none")) == 0
    assert (tmp_path / "named.trec").read_bytes() == (tmp_path / "out.trec").read_bytes()
    assert main(command(None, ["none"], "both.trec", "--adapter", "none")) == 2
    assert "that is what the others are compared with" in capsys.readouterr().err
    options = {"dtype": "float32", "device": "cpu"}
    named, alone = (Reranker.from_pretrained(str(folder / "tiny-llama"), name, **options) for name in ("none", None))
    assert named.rerank("who", ["x", "y"]) == alone.rerank("who", ["x", "y"])


def test_alpha_is_the_same_for_all(command, tmp_path: Path) -> None:
    assert main(command("hints-a", ["none"], "out.trec.gz", "--alpha", "0")) == 0
    first = [line.split()[2] for line in RUN.splitlines()]
    for name in ("out.trec.gz", "out.ql-plain-tiny-llama-alpha0.trec.gz"):
        assert [docid for _, docid in scores(tmp_path / name)] == first


def test_stdout_holds_the_main_run_and_no_other_is_written(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command("hints-a", ["none"])) == 0
    capsys.readouterr()
    before = sorted(tmp_path.iterdir())
    assert main(command("hints-a", ["none"], "-")) == 0
    told = capsys.readouterr()
    assert told.out == (tmp_path / "out.trec").read_text("utf-8")
    assert "ql-plain-tiny-llama" in told.err
    assert sorted(tmp_path.iterdir()) == before


def test_a_dry_run_says_what_reading_together_saves(
    command, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.iterdir())
    assert main(command("hints-a", ["none", "lora"], "out.trec", "--dry-run")) == 0
    said = capsys.readouterr().err
    line = next(line for line in said.splitlines() if line.startswith("comparing"))
    assert line.startswith("comparing  3 ways of scoring, up to 2 in one reading of a passage, which saves ")
    assert int(line.split("saves ")[1].split()[0]) > 0
    assert f"output     {tmp_path / 'out.ql-plain-tiny-llama.trec'}" in said
    assert sorted(tmp_path.iterdir()) == before
    assert main(command("q", ["none"], "out.trec", "--dry-run")) == 0
    assert "2 ways of scoring, each by itself: no two read the same tokens" in capsys.readouterr().err
    assert main(command("hints-a", [], "out.trec", "--dry-run")) == 0
    assert "comparing" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("adapter", "compare", "more", "says"),
    [
        ("hints-a", ["no-such"], [], "no-such"),
        ("hints-a", ["none", "none"], [], "--compare none: named twice"),
        ("hints-a", ["hints-r", "../{}/hints-r"], [], "named twice"),
        ("hints-a", ["hints-a"], [], "what the others are compared with"),
        (None, ["none"], [], "what the others are compared with"),
        ("hints-a", ["elsewhere/hints-a"], [], "would both be called hints-a-tiny-llama"),
        ("hints-a", ["none"], ["--scores", "out.ql-plain-tiny-llama.trec"], "another output of this job"),
        ("hints-a", ["none"], ["--explain", "out.ql-plain-tiny-llama.trec"], "another output of this job"),
        ("hints-a", ["hints-r"], [], "hints-r-tiny-llama.trec: exists; add --overwrite"),
    ],
)
def test_what_cannot_be_compared_is_refused_before_the_model_is_loaded(
    command, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys, adapter, compare, more, says
) -> None:
    def load(*args: object) -> None:
        raise AssertionError("the model was loaded")

    elsewhere = folder / "elsewhere" / "hints-a"
    elsewhere.mkdir(parents=True, exist_ok=True)
    (elsewhere / "adapter_config.json").write_text(json.dumps({"peft_type": "QPEFT_A"}), "utf-8")
    (tmp_path / "out.hints-r-tiny-llama.trec").write_text("mine", "utf-8")
    monkeypatch.setattr(LanguageModel, "load", load)
    compare = [name.format(folder.name) for name in compare]
    more = [word if word.startswith("--") else str(tmp_path / word) for word in more]
    assert main(command(adapter, compare, "out.trec", *more)) == 2
    said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and says in said[0]
    assert (tmp_path / "out.hints-r-tiny-llama.trec").read_text("utf-8") == "mine"
    assert not (tmp_path / "out.trec").exists()


def test_from_python(folder: Path, tmp_path: Path, tiny_corpus: Path) -> None:
    from qpeft_rerank.collection.jsonl import CorpusFile
    from qpeft_rerank.trec.topics import Topic

    (tmp_path / "run").write_text(RUN, "utf-8")
    run, topics = read_run(str(tmp_path / "run")), {"10": Topic("10", "who wrote it"), "9": Topic("9", "a machine")}
    options = {"dtype": "float32", "device": "cpu"}
    names = [str(folder / "lora"), "none"]
    model = str(folder / "tiny-llama")
    reranker = Reranker.from_pretrained(model, str(folder / "hints-r"), compare=names, **options)
    lora, none, own = reranker.compare_run(run, topics, CorpusFile(str(tiny_corpus)))
    single = reranker.rerank_run(run, topics, CorpusFile(str(tiny_corpus)))
    named = [(lora, "lora"), (none, None), (own, "hints-r"), (single, "hints-r")]
    for result, adapter in ((result, name and str(folder / name)) for result, name in named):
        alone = Reranker.from_pretrained(model, adapter, **options)
        expected = alone.rerank_run(run, topics, CorpusFile(str(tiny_corpus)))
        assert [pair[:2] for pair in result.pairs] == [pair[:2] for pair in expected.pairs]
        found = torch.tensor([pair.score.mean for pair in result.pairs])
        assert torch.allclose(found, torch.tensor([pair.score.mean for pair in expected.pairs]), atol=1e-4, rtol=0)


def test_an_adapters_prompt_is_known_by_its_words(folder: Path) -> None:
    """A prompt's name is that of the file it was read from, and says nothing of it."""
    model, adapter = folder / "tiny-llama", folder / "q"
    copied = dataclasses.replace(load_template("qpeft"), name="copy")
    assert Reranker.from_pretrained(model, adapter, prompt=copied, device="cpu").scorer.hinter
    with pytest.raises(InputError, match="was trained with the prompt qpeft; leave --prompt out"):
        Reranker.from_pretrained(model, adapter, prompt="plain", device="cpu")


@pytest.mark.parametrize(("adapter", "prompt", "other"), [("q", "plain", "qpeft"), ("lora", "qpeft", "plain")])
def test_another_prompt_than_the_adapter_s_is_told_before_anything_is_read(
    command, folder: Path, adapter: str, prompt: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*command(str(folder / adapter), []), "--prompt", prompt, "--run", "absent.trec"]
    assert main(words) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said == f"error: adapter {folder / adapter} was trained with the prompt {other}; leave --prompt out"
