"""The driver without running anything: lists, plans, refusals."""

import dataclasses
import shutil
import socket

import pytest

from eval import reproduce
from eval.chain import Chain
from eval.conditions import conditions_of, parse_condition
from eval.design import FOLDER, load_matrix
from eval.estimate import Estimator, measured_speed
from eval.steps import Step, ordered
from qpeft_rerank.console import duration
from qpeft_rerank.errors import InputError
from tests.helping import helps_at_once


@pytest.fixture
def run(tmp_path, capsys):
    def call(*words):
        status = reproduce.main([*map(str, words), "--work", str(tmp_path / "work")])
        out, err = capsys.readouterr()
        return status, out, err

    return call


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("the network was asked")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_dry_run_of_everything_at_full_scale(run, no_network, tmp_path):
    status, out, err = run("--all", "--scale", "full", "--dry-run")
    assert status == 0 and not (tmp_path / "work").exists()
    commands = [line.partition(" && ")[2] for line in out.splitlines() if line.startswith("mkdir -p ")]
    matrix = load_matrix()
    tables = [table for table in matrix.tables.values() if "full" in (table.scales or ["full"])]
    conditions = {c.name for table in tables for c in conditions_of(matrix, table)}
    # What names the scale's own value is the same step; the paper's prompt is the scale's.
    own = (".model-Llama-2-7b-chat-hf", ".hints-after", ".queries-320", ".qpeft-a-prompt")
    shared = [c for c in conditions if c.endswith(own)]
    evaluated = [line for line in commands if line.startswith("python -m qpeft_rerank.evaluate ")]
    assert len(set(commands)) == len(commands) and len(evaluated) == len(conditions) - len(shared)
    for words in (
        "--index wikipedia-dpr-100w",
        "--topics dpr-trivia-test --count 300",
        "--model meta-llama/Llama-2-7b-chat-hf",
        "--prompt qpeft --dataset webq",
        "https://dl.fbaipublicfiles.com/dpr/data/retriever/biencoder-squad1-train.json.gz",
        "--depth 100",
        "--option filters=dqsa",
        "--k 20",
        "qpeft-hints-first.yaml",
        "--queries 2560",
        "--preset faithful",
    ):
        assert any(words in line for line in commands), words
    assert "0 steps done" in err and "GPU time" in err
    assert all(condition in err for condition in conditions)


def test_dry_run_of_the_paper_with_all_topics(run, no_network):
    status, out, _ = run("--table", "main", "--scale", "full", "--topics", 0, "--dry-run", "--device", "cuda")
    assert status == 0 and "--topics dpr-nq-test --count 0" in out and "--device cuda" in out
    assert out.count(" && python -m qpeft_rerank.rerank ") == 20
    assert out.count(" && python -m qpeft_rerank.train ") == 16


def test_list(run):
    status, out, _ = run("--list")
    assert status == 0 and "--table main" in out and "  nq.bm25.qpeft-a\n" in out and "k-5" in out
    status, out, _ = run("--list", "--table", "main", "--datasets", "squad", "--methods", "lora")
    assert [line for line in out.splitlines() if line.startswith("  squad")] == ["  squad.bm25.lora"]


def test_help_is_there_at_once():
    names = "reproduce index sample candidates judge untrained fetch dpr_json fusion report shifts compare"
    measured = "speed precision profile training"
    helps_at_once([f"eval.{name}" for name in [*names.split(), *(f"benchmarks.{one}" for one in measured.split())]])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "nothing asked for"),
        (["--table", "mian"], "no table 'mian'; give main"),
        (["--table", "main", "--scale", "huge"], "no scale 'huge'"),
        (["--table", "main", "--datasets", "nqq"], "no dataset 'nqq'; give nq"),
        (["--table", "main", "--methods", "qpeft"], "no method 'qpeft'"),
        (["--condition", "nq.bm25"], "write dataset.first-stage.method"),
        (["--condition", "nq.bm26.lora"], "no first stage 'bm26'; give bm25"),
        (["--condition", "nq.bm25.qpeft-r.k-7"], "no variant 'k-7'"),
        (["--condition", "nq.bm25.zero-shot.k-5"], "no variant 'k-5'"),
        (["--table", "main"], "needs --data"),
        (["--table", "main", "--data", "absent"], "no such folder"),
        (["--table", "ablation-model"], "is for --scale full only"),
        (["--table", "main", "--topics", "-1"], "0 for all"),
        (["--table", "main", "--first-stage", "dpr"], "write NAME=RUN"),
        (["--table", "main", "--first-stage", "bm25=x"], "choose another name"),
        (["--table", "main", "--first-stage", "a=x", "--first-stage", "a=y"], "a=y: choose another name"),
        (["--table", "main", "--first-stage", "my (run)=x"], "choose another name, of letters"),
        (
            ["--condition", "nq.bm25.lora", "--datasets", "nq", "--values", "9"],
            "--datasets, --values: narrows a --table",
        ),
        (["--list", "--all", "--datasets", "curated"], "--scale mini: no table has these --datasets"),
        (["--all", "--datasets", "nqq"], "--datasets: no dataset 'nqq'; give nq"),
        (["--condition", "nq.bm25.hints-untrained.margin-0.3"], "no variant 'margin-0.3'"),
        (["--table", "main", "--set", "epochs=2026-13-45"], "2026-13-45: give a number or a word"),
        (["--table", "main", "--epochs", "2", "--set", "epochs=3"], "--epochs, --set epochs: two ways"),
        (["--table", "main", "--scale", "full", "--first-stage", "dpr=absent.{dataset}", "--dry-run"], "absent.nq"),
        (["--table", "main", "--scale", "full", "--prompt", "none", "--dry-run"], "no prompt 'none'"),
    ],
)
def test_refusals_are_one_line(run, words, said):
    status, _, err = run(*words)
    assert status == 2 and said in err and err.startswith("error: ") and err.count("\n") == 1


def test_missing_topics(run, data, tmp_path):
    folder = tmp_path / "some"
    shutil.copytree(data, folder)
    (folder / "topics.nq.dev.jsonl").unlink()
    status, _, err = run("--condition", "nq.bm25.qpeft-a", "--data", folder, "--dry-run")
    assert status == 2 and "topics.nq.dev.jsonl: no such file" in err
    assert run("--condition", "nq.bm25.zero-shot", "--data", folder, "--dry-run")[0] == 0


def test_all_tables_are_narrowed_to_what_they_have(run, data):
    status, out, _ = run("--all", "--data", data, "--datasets", "nq", "--methods", "zero-shot", "--dry-run")
    assert status == 0 and "# rerank nq.bm25.zero-shot: " in out and "dl19" not in out and "qpeft-a" not in out
    # Whichever of the names a table has.
    names = ("--datasets", "nq", "squad", "dl19", "--methods", "lora", "qpeft-a")
    status, out, _ = run("--list", "--all", *names)
    assert status == 0 and "--table ablation-k:" not in out
    assert "  squad.bm25.lora\n" in out and "  dl19.bm25.lora\n" in out and "  nq.bm25.qpeft-a.margin-0.3\n" in out


def test_flags_given_twice_add_up(run, data):
    words = ("--table", "main", "--scale", "mini", "--data", data, "--dry-run")
    once = run(
        *words, "--datasets", "nq", "squad", "--methods", "zero-shot", "lora", "--set", "negatives=2", "loss=hinge"
    )
    twice = run(
        *words,
        *("--datasets", "nq", "--datasets", "squad", "--methods", "zero-shot", "--methods", "lora"),
        *("--set", "negatives=2", "--set", "loss=hinge"),
    )
    # Beside the commands stand times, which are estimated anew.
    commands = [[line for line in out.splitlines() if line.startswith("mkdir")] for _, out, _ in (once, twice)]
    assert commands[0] == commands[1] and once[0] == 0 and "# train squad.lora" in once[1]


def test_the_start_of_a_training_has_its_options_and_seed(data):
    matrix = load_matrix()
    chain = Chain(dataclasses.replace(matrix.scales["mini"], seed=7), data, FOLDER / "prompts")
    said = {}
    for name in ("nq.bm25.qpeft-r-start", "squad.bm25.qpeft-r-start", "squad.bm25.hints-untrained"):
        said[name] = " ".join(chain.adapter(parse_condition(matrix, name)).command(data))
    assert "--option k=15 --seed 7" in said["nq.bm25.qpeft-r-start"]
    assert "--option k=10 --seed 7" in said["squad.bm25.qpeft-r-start"]
    assert "--option" not in said["squad.bm25.hints-untrained"]  # its preset says all


def test_what_needs_no_seed_is_shared_by_all(data):
    matrix = load_matrix()
    one, other = (
        Chain(dataclasses.replace(matrix.scales["mini"], seed=seed), data, FOLDER / "prompts") for seed in (42, 7)
    )
    for name, same in (("nq.bm25.zero-shot", True), ("nq.bm25.qpeft-a", False)):
        condition = parse_condition(matrix, name)
        assert (one.rerank(condition).key == other.rerank(condition).key) == same
    seeded = dataclasses.replace(matrix.scales["mini"], pick="seeded")
    keys = {
        Chain(dataclasses.replace(seeded, seed=seed), data, FOLDER / "prompts").topics(condition).key
        for seed in (42, 7)
    }
    assert len(keys) == 2


def test_conditions_share_steps(data):
    matrix = load_matrix()
    chain = Chain(matrix.scales["mini"], data, FOLDER / "prompts")
    conditions = conditions_of(matrix, matrix.tables["ablation-hints"])
    conditions = [condition for condition in conditions if condition.dataset.name in ("nq", "squad")]
    steps = ordered(chain.evaluation(condition) for condition in conditions)
    kinds = [step.kind for step in steps]
    # One index, and for each data set one sample, search, judgement and mining, for four trainings.
    assert [kinds.count(kind) for kind in ("index", "sample", "judge", "mine", "train")] == [1, 2, 2, 2, 8]
    assert kinds.count("retrieve") == 4
    plain = chain.evaluation(parse_condition(matrix, "nq.bm25.qpeft-r"))
    after = chain.evaluation(parse_condition(matrix, "nq.bm25.qpeft-r.hints-after"))
    assert plain is after


def test_a_run_made_elsewhere(data, tmp_path, run):
    for name in ("nq", "squad"):
        (tmp_path / f"dpr.{name}").write_text("0 Q0 00 1 1.0 x\n")
    words = ("--table", "main", "--datasets", "nq", "squad", "--methods", "first-stage", "zero-shot")
    pattern = f"dpr={tmp_path}/dpr.{{dataset}}"
    status, out, _ = run(*words, "--first-stage", pattern, "--data", data, "--dry-run")
    assert status == 0 and out.count("python -m eval.candidates ") == 2
    assert out.count("python -m qpeft_rerank.rerank ") == 4


def test_estimates():
    small, wiki = ["--model", "small"], ["--index", "wiki"]
    timed = [
        {"kind": "rerank", "seconds": 10.0, "operations": 1e9, "command": ["-m", "m", *small]},
        {"kind": "judge", "seconds": 4.0, "operations": 0, "command": ["-m", "m", *wiki]},
    ]
    estimator = Estimator(timed, speed=1e12)
    assert estimator.seconds(Step("rerank", "", "m", tuple(small), "o", operations=5e9)) == 50.0
    assert estimator.seconds(Step("train", "", "m", tuple(small), "o", operations=5e12)) == 5.0
    judge, mine = Step("judge", "", "m", tuple(wiki), "o"), Step("mine", "", "m", tuple(wiki), "o")
    assert (estimator.seconds(judge), estimator.seconds(mine)) == (4.0, None)
    assert (estimator.said([mine]), estimator.said([judge, mine])) == ("?", "4 s and 1 more unknown")
    # What a small model took says nothing of a large one's GPU time, nor one index of another.
    assert estimator.seconds(Step("rerank", "", "m", ("--model", "large"), "o", operations=5e12)) == 5.0
    assert estimator.seconds(Step("judge", "", "m", ("--index", "wikipedia-dpr-100w"), "o")) is None
    assert measured_speed("cpu", "float32") > 1e8 and duration(600) == "10 min" and duration(9000) == "2.5 h"


def test_two_drivers_do_not_meet(data, tmp_path, run):
    from filelock import FileLock

    (tmp_path / "work").mkdir()
    with FileLock(tmp_path / "work" / "lock"):
        status, _, err = run("--condition", "nq.bm25.first-stage", "--data", data)
    assert status == 2 and "another process works there" in err


def test_unknown_prompt_before_the_passage(data):
    import dataclasses

    scale = dataclasses.replace(load_matrix().scales["mini"], prompt="upr")
    chain = Chain(scale, data, FOLDER / "prompts")
    with pytest.raises(InputError, match=r"no prompt .*upr-hints-first\.yaml"):
        chain.evaluation(parse_condition(load_matrix(), "nq.bm25.qpeft-r.hints-before"))
