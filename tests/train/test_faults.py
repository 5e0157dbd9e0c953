"""What the training command refuses, and what it keeps when a loss is no number."""

import json
import os
import sys

import pytest
import tiny
import torch

from qpeft_rerank import train
from qpeft_rerank.adapters.qpeft_a.module import QPeftA
from qpeft_rerank.adapters.store import load_adapter
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.scorer import NotFiniteError
from qpeft_rerank.training import dev, prefix
from qpeft_rerank.training.loop import Trainer
from qpeft_rerank.training.workers import Workers
from tests.train.words import command


def test_nan_keeps_the_best_epoch(files, model_folder, monkeypatch, capsys):
    original, calls = prefix.means_after_prefix, []

    def failing(*given):
        calls.append(1)
        return original(*given) * (float("nan") if len(calls) > 8 else 1.0)

    monkeypatch.setattr(prefix, "means_after_prefix", failing)
    assert train.main(command(files, model_folder, "--epochs", 9)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("error: step ") and "loss is nan" in said and "holds the adapter of epoch" in said
    assert load_adapter(str(files / "out"), LanguageModel.load(str(model_folder), "float32", "cpu"))


@pytest.mark.parametrize(("calls_before", "steps"), [(0, 0), (3, 3)], ids=["at once", "later"])
def test_nan_keeps_what_was_learnt_before_any_epoch_ended(
    files, model_folder, monkeypatch, capsys, calls_before: int, steps: int
):
    original, calls = Trainer._mean_log_probs, []

    def failing(self, sequences):
        calls.append(1)
        return original(self, sequences) * (float("nan") if len(calls) > calls_before else 1.0)

    monkeypatch.setattr(Trainer, "_mean_log_probs", failing)
    assert train.main(command(files, model_folder, "--queries-per-step", 1)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    kept = sorted(path.name for path in (files / "out.training" / "checkpoints").glob("step-*"))
    if steps:
        assert f"step {steps + 1}: the loss is nan; train again with --overwrite and a lower --lr" in said
        assert said.endswith(f"the last good checkpoint is {files / 'out.training' / 'checkpoints' / kept[-1]}")
        assert kept[-1] == f"step-{steps:08d}"
    else:
        # No rate can be at fault before the first step.
        assert "step 1: the loss is nan before anything was learnt" in said and "--lr" not in said
        assert "checkpoint" not in said and kept == ["step-00000000"]


@pytest.mark.parametrize(
    ("owner", "name", "said"),
    [
        (QPeftA, "to", "--adapter qpeft-a: does not fit into the memory of cpu beside the model"),
        (QPeftA, "cover", "--adapter qpeft-a: does not fit into the memory of cpu beside the model"),
        (QPeftA, "forward", "out of memory on a few sequences"),
        (prefix, "means", "out of memory on a few sequences"),
        # Not left to training without what is shared: weights would differ by what memory there was.
        (prefix, "compute_cache", "out of memory on a few sequences"),
        (Workers, "add_up", "out of memory for the sum of all processes' gradients"),
        (torch.optim.AdamW, "step", "out of memory for the optimizer"),
    ],
)
def test_what_finds_no_memory_is_one_line(files, model_folder, owner, name, said, monkeypatch, capsys):
    def full(*given):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(owner, name, full)
    assert train.main(command(files, model_folder)) == 2
    assert f"error: {said}" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (files / "out").exists()


def test_a_file_given_twice_is_refused(files, model_folder, capsys):
    twice = ["--train", files / "train.jsonl"] * 2
    assert train.main(command(files, model_folder, *twice)) == 2
    assert "is given twice" in capsys.readouterr().err


def test_questions_without_a_usable_negative_are_told(files, model_folder, capsys):
    lines = [json.loads(line) for line in (files / "train.jsonl").read_text().splitlines()]
    lines[0]["negatives"] = []
    for passage in lines[1]["negatives"]:
        passage["text"] += " " + lines[1]["answers"][0]
    (files / "train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert train.main(command(files, model_folder)) == 0
    assert "2 questions have no negative without an answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--adapter", "qpeft-z"], "--adapter qpeft-z: give one of"),
        (["--dataset", "msmarco"], "--dataset msmarco: give nq"),
        (["--preset", "best"], "--preset best"),
        (["--loss", "l2"], "--loss l2"),
        (["--margin", "-1"], "--margin"),
        (["--lr", "0"], "--lr"),
        (["--lr", "nan"], "--lr nan: give a finite number"),
        (["--lr", "1e30"], "--lr 1e+30: give a number above 0, up to 1"),
        (["--weight-decay", "inf"], "--weight-decay inf"),
        (["--warmup", "nan"], "--warmup nan"),
        (["--margin", "1e300"], "--margin 1e+300"),
        (["--loss", "contrastive", "--temperature", "1e-45"], "--temperature"),
        (["--seed", "99999999999999999999"], "--seed"),
        (["--negatives", "90"], "at most 50"),
        (["--option", "seed=1"], "no option 'seed'"),
        (["--option", "gate=NaN"], "gate is a number"),
        (["--option", f"gate=1{'0' * 400}"], "gate is a number"),
        (["--adapter", "lora", "--option", "rank_pattern=5"], "peft cannot put LORA on this model"),
        (["--epochs", "0"], "--epochs 0"),
        (["--negatives", "0"], "compares with negatives"),
        (["--heads", "3"], "3 heads do not divide"),
        (["--heads", "2", "--adapter", "qpeft-r"], "--heads belongs to qpeft-a"),
        (["--option", "k"], "--option k: write NAME=VALUE"),
        (["--heads", "2", "--option", "heads=4"], "--heads 2 and --option heads=4: give one of them"),
        (["--option", "colour=1"], "no option 'colour'"),
        (["--adapter", "lora", "--option", "colour=1"], "--adapter lora"),
        (["--adapter", "prompt-tuning", "--option", "num_virtual_tokens=1000"], "its 1000 virtual tokens fill the"),
        (["--adapter", "prompt-tuning", "--option", "num_virtual_tokens=250"], "reads 6; shorten the query"),
        (["--adapter", "prompt-tuning", "--option", "num_virtual_tokens=249"], ", or set num_virtual_tokens below 249"),
        (["--adapter", "prefix-tuning", "--option", "num_layers=1"], "num_layers is 1, this model's 2"),
        (["--adapter", "lora", "--option", "alora_invocation_tokens=[5]"], "alora_invocation_tokens is not supported"),
        (["--adapter", "soft-prompt"], "soft prompt needs a prompt piece"),
        (["--dev-run", "r"], "two ways"),
        (["--dev-corpus", "c"], "--dev-corpus: belongs to --dev-run"),
        (["--queries", "-1"], "--queries -1"),
        (["--prompt", "absent"], "no prompt 'absent'"),
        (["--adapter", "qpeft-z", "--model", "/absent/model", "--train", "/absent"], "--adapter qpeft-z: give one of"),
        (["--option", "colour=1", "--model", "/absent/model", "--train", "/absent"], "no option 'colour'"),
        (["--adapter", "prompt-tuning", "--option", "num_virtual_tokens=0"], "with these options has nothing to train"),
        (["--adapter", "prefix-tuning", "--option", "num_virtual_tokens=0"], "with these options has nothing to train"),
        (["--output", "-"], "--output -: an adapter is a folder"),
        (["--output", "/dev/stdout"], "--output -: an adapter is a folder"),
        (["--tensorboard"], "pip install tensorboard"),
    ],
)
def test_bad_input_is_one_line(files, model_folder, more, said, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    assert train.main(command(files, model_folder, *more)) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("error: ") and said in last
    assert not (files / "out").exists()


@pytest.mark.parametrize("adapter", ["prefix-tuning", "p-tuning-v2"])
def test_a_model_without_keys_takes_no_prefix(files, adapter, capsys):
    folder = tiny.save_model(files / "rwkv", model_type="rwkv")
    assert train.main(command(files, folder, "--adapter", adapter)) == 2
    assert "changes no score of" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (files / "out").exists()


def test_a_missing_library_is_told_before_anything_is_read(files, model_folder, capsys, monkeypatch):
    monkeypatch.setattr("qpeft_rerank.likelihood.int8.find_spec", lambda name: None)
    assert train.main(command(files, model_folder, "--dtype", "int8")) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.startswith("error: --dtype int8: needs torchao") and "pip install qpeft_rerank[int8]" in said


def test_a_folder_that_is_no_adapter_is_not_overwritten(files, model_folder, capsys):
    (files / "out").mkdir()
    (files / "out" / "thesis.txt").write_text("years of work")
    assert train.main(command(files, model_folder, "--overwrite")) == 2
    assert "holds something else than an adapter" in capsys.readouterr().err
    assert (files / "out" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("link", [False, True])
def test_a_file_is_not_overwritten(files, model_folder, link, capsys):
    path = files / "out"
    path.symlink_to(files / "nowhere") if link else path.write_text("years of work")
    for more in ([], ["--overwrite"]):
        assert train.main(command(files, model_folder, *more)) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said == f"error: --output {path}: is a file; name another folder"
    assert path.is_symlink() if link else path.read_text() == "years of work"


@pytest.mark.parametrize("flag", ["--train", "--dev", "--model", "--prefix-cache"])
@pytest.mark.parametrize("folder", ["out", "out/more", "out.training", "link"])
def test_what_is_read_or_kept_is_not_replaced(files, model_folder, flag, folder, capsys):
    (files / "out").mkdir()
    (files / "out" / "adapter_config.json").write_text("{}")
    (files / "link").symlink_to(files / "out")
    inside = files / folder / "data"
    inside.parent.mkdir(exist_ok=True)
    inside.mkdir() if flag == "--model" else inside.write_bytes((files / "train.jsonl").read_bytes())
    assert train.main(command(files, model_folder, "--overwrite", flag, inside)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"error: {flag} {inside}: is in {files / 'out'}") and said.endswith("; keep them apart")
    assert inside.exists()


def test_a_mount_point_is_refused_at_once(files, model_folder, capsys):
    mounted = next(path for path in ("/proc", "/dev") if os.path.ismount(path))
    for more in ([], ["--overwrite"]):
        assert train.main(command(files, model_folder, "--output", mounted, *more)) == 2
        assert f"error: --output {mounted}: is a mount point" in capsys.readouterr().err


def test_a_link_to_a_folder_stays(files, model_folder):
    (files / "disk").mkdir()
    (files / "disk" / "adapter").mkdir()
    (files / "out").symlink_to(files / "disk" / "adapter")
    for more in ([], ["--overwrite"]):
        assert train.main(command(files, model_folder, "--epochs", 1, *more)) == 0
        assert (files / "out").is_symlink() and [path.name for path in (files / "disk").iterdir()] == ["adapter"]
    assert load_adapter(str(files / "out"), LanguageModel.load(str(model_folder), "float32", "cpu"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lock", "checkpoints", "zero-shot.json", "made"])
def test_any_name_will_do(files, model_folder, name):
    for more in ([], ["--overwrite"]):
        assert train.main(command(files, model_folder, "--output", files / name, "--epochs", 1, *more)) == 0
    assert {path.name for path in files.glob(f"{name}*")} == {name}
    assert load_adapter(str(files / name), LanguageModel.load(str(model_folder), "float32", "cpu"))


def test_a_folder_without_a_name_is_refused(files, model_folder, capsys):
    assert train.main(command(files, model_folder, "--output", "/")) == 2
    assert "--output /: is no name of a folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", [b"caf\xe9", b"caf\xe9/out"])
def test_a_folder_whose_path_is_no_text_is_refused_at_once(files, model_folder, name, capsys):
    output = files / os.fsdecode(name)
    assert train.main(command(files, model_folder, "--output", output)) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "parameters learn" in line or "error" in line]
    assert said.startswith("error: --output") and "the path is not valid UTF-8; name another folder" in said
    assert not list(files.glob("caf*"))


def test_a_file_name_that_is_no_text(files, model_folder):
    odd = files / os.fsdecode(b"caf\xe9.jsonl")
    odd.write_bytes((files / "train.jsonl").read_bytes())
    assert train.main(command(files, model_folder, "--train", odd, "--epochs", 1)) == 0
    assert json.loads((files / "out" / "training.json").read_text())["data"][0]["file"] == "caf\ufffd.jsonl"


def test_another_process_s_dev_score_that_is_no_number_stops_this_one_too(files, model_folder, monkeypatch, capsys):
    original, calls = Workers.interleave, []

    def interleave(self, mine, length):
        calls.append(1)
        # After the model alone, the untrained adapter and the first epoch.
        return [*original(self, mine, length)[:-1], float("nan")] if len(calls) > 3 else original(self, mine, length)

    monkeypatch.setattr(Workers, "interleave", interleave)
    assert train.main(command(files, model_folder, "--epochs", 3)) == 2
    assert "holds the adapter of epoch 1" in capsys.readouterr().err


def test_a_dev_score_that_is_no_number_keeps_the_best_epoch(files, model_folder, monkeypatch, capsys):
    original, calls = dev.score_dev, []

    def failing(*given):
        calls.append(1)
        if len(calls) > 3:
            raise NotFiniteError("the model gave nan for topic 0")
        return original(*given)

    monkeypatch.setattr(dev, "score_dev", failing)
    assert train.main(command(files, model_folder, "--epochs", 3)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "a dev score is no number" in said and "holds the adapter of epoch 1" in said
    assert load_adapter(str(files / "out"), LanguageModel.load(str(model_folder), "float32", "cpu"))


@pytest.mark.parametrize(
    ("questions", "more", "advice"),
    [
        (2, [], "mine some, or add --in-batch"),
        (2, ["--in-batch", "--queries-per-step", "1"], "mine some"),
        (1, ["--in-batch"], "mine some"),
        (1, [], "mine some"),
    ],
)
def test_in_batch_is_advised_where_it_helps(files, model_folder, questions, more, advice, capsys):
    bare = files / "bare.jsonl"
    lines = [json.dumps({"query": f"q {n}", "positives": [{"text": f"t {n}"}]}) for n in range(questions)]
    bare.write_text("\n".join(lines))
    assert train.main(command(files, model_folder, "--train", bare, *more)) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "no negative passages" in said and said.endswith(f"compares with; {advice}")


def test_a_question_too_long_is_named(files, model_folder, capsys):
    lines = (files / "train.jsonl").read_text().splitlines()
    lines.insert(2, json.dumps(json.loads(lines[0]) | {"query": "sun " * 300}))
    (files / "train.jsonl").write_text("\n".join(lines))
    for more in ([], ["--in-batch"]):
        assert train.main(command(files, model_folder, *more)) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith(f"error: {files / 'train.jsonl'}:3: the query 'sun sun") and "shorten the query" in said


def test_bad_data_is_one_line(files, model_folder, capsys):
    def refused(*more, dev="--dev"):
        assert train.main(command(files, model_folder, *more, dev=dev)) == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    bare = files / "bare.jsonl"
    record = {"query": "q", "positives": [], "negatives": []}
    bare.write_text(json.dumps(record) + "\n")
    assert "bare.jsonl: none of its 1 questions has a positive" in refused("--train", bare)
    bare.write_text(json.dumps(record | {"positives": [{"text": "t"}]}) + "\n")
    assert "no negative passages (no question has one)" in refused("--train", bare)
    false = {"answers": ["sun"], "positives": [{"text": "the sun"}], "negatives": [{"text": "a sun"}]}
    bare.write_text(json.dumps(record | false) + "\n")
    assert "no negative passages (none without one of its answers)" in refused("--train", bare)
    bare.write_text(json.dumps(record | {"query": ""}) + "\n")
    assert "bare.jsonl:1: the question is empty" in refused("--train", bare)
    (files / "run.trec").write_text("sun Q0 nowhere 1 1 x\n")
    assert "docid nowhere of the dev run is not in" in refused(dev="--dev-run")
    (files / "run.trec").write_text("other Q0 sun 1 1 x\n")
    assert "none of the dev run's 1 topics" in refused(dev="--dev-run")
    (files / "run.trec").write_text("sun Q0 moon 1 1 x\n")
    assert "no dev question has relevant and other candidates" in refused(dev="--dev-run")
    (files / "qrels.txt").write_text("other 0 moon 1\n")
    said = refused("--dev-qrels", files / "qrels.txt", dev="--dev-run")
    assert "qrels.txt: none of the dev run's topics is judged there" in said
    assert "go together" in refused("--dev-topics", "t", dev="")
    assert "add --dev-corpus" in refused("--dev-topics", "t", "--dev-run", "r", dev="")


def test_an_output_that_exists_is_refused_before_files_are_read(files, model_folder, monkeypatch, capsys):
    (files / "out").mkdir()
    (files / "out" / "adapter_config.json").write_text("{}")
    monkeypatch.setattr("qpeft_rerank.training.data.read_training_file", lambda *given: pytest.fail("was read"))
    assert train.main(command(files, model_folder)) == 2
    assert "out: exists; add --overwrite" in capsys.readouterr().err
