"""A data set with graded judgements and its own collection: TREC DL 2019, out of domain."""

import dataclasses
import math

import pytest

from eval import judge, report, reproduce
from eval.chain import Chain
from eval.conditions import conditions_of, parse_condition
from eval.design import FOLDER, load_matrix
from eval.parameters import parameters_of
from eval.publish import publish
from eval.selection import select
from eval.steps import adapter_source, ordered
from eval.store import Store
from qpeft_rerank.trec.qrels import read_qrels
from tests.eval import made

MATRIX = load_matrix()
METHODS = ["first-stage", "zero-shot", "qpeft-a", "general-a"]
DEPTH = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graded")
    data = made.data_folder(folder / "data", ("nq",), 10)
    made.graded_folder(folder / "dl19", 15, DEPTH)
    scale = dataclasses.replace(MATRIX.scales["mini"], model="no/model", depth=DEPTH)
    chain = Chain(scale, data, FOLDER / "prompts", (), MATRIX.datasets)
    listed = [c for c in conditions_of(MATRIX, MATRIX.tables["dl19"]) if c.method.name in METHODS]
    store = Store(folder / "work")
    made.finish(listed, chain, store)
    return folder, data, chain, store, listed


def test_the_chain_takes_its_files_and_the_adapters_of_nq(place):
    _, data, chain, store, listed = place
    by_name = {condition.method.name: condition for condition in listed}
    steps = ordered(chain.evaluation(condition) for condition in listed)
    said = {f"{step.kind} {step.label}": " ".join(step.command(store.work)) for step in steps}
    assert f"--run {data}/../dl19/run.bm25.txt" in said["candidates dl19.bm25"]
    assert f"--qrels {data}/../dl19/qrels.txt" in said["judge dl19.bm25"]
    assert f"--corpus {data}/../dl19/corpus.jsonl" in said["rerank dl19.bm25.qpeft-a"]
    assert "--model embedded --adapter smollm2-135m-a" in said["rerank dl19.bm25.general-a"]
    own = chain.adapter(parse_condition(MATRIX, "nq.bm25.qpeft-a"))
    assert chain.adapter(by_name["qpeft-a"]) is own and "topics.nq.train.jsonl" in said["mine nq"]
    # Whatever lies in the data folder: what such a set brings is for its test topics alone.
    (data / "topics.dl19.dev.jsonl").write_text("")
    searched = parse_condition(MATRIX, "dl19.bm25.zero-shot")
    assert searched.first_stage.kind == "search" and not chain.has_dev(searched)


def test_its_ndcg_is_that_of_the_grades(place, tmp_path):
    folder, _, chain, store, listed = place
    text = publish("dl19", "T", ["nDCG@10"], "zero-shot", listed, chain, store, MATRIX, tmp_path)
    qrels = read_qrels(str(folder / "dl19" / "qrels.txt"))

    def gain(grades):
        return sum(grade / math.log2(place + 2) for place, grade in enumerate(grades[:10]))

    found = [
        gain([grades[f"p{n}"] for n in range(DEPTH)]) / gain(sorted(grades.values(), reverse=True))
        for grades in qrels.values()
    ]
    row = next(line for line in text.splitlines() if "| First stage |" in line)
    assert f" {100 * sum(found) / len(found):.2f}" in row.replace("**", " ") and "| 15 |" in row
    assert "15 topics in 1 data set." in text


def test_alone_it_is_measured_by_its_grades_too():
    for name, more in (("nq", []), ("dl19", ["nDCG@10"])):
        args = reproduce._parser().parse_args(["--condition", f"{name}.bm25.zero-shot"])
        (table, _) = select(args).wanted["conditions"]
        assert table.measures == ["R@10", "H@10", "MRR@10", *more]


def test_at_full_scale_names_stand_for_files(place, capsys):
    assert reproduce.main(["--table", "dl19", "--scale", "full", "--dry-run"]) == 0
    out = capsys.readouterr().out
    for words in ("--index msmarco-v1-passage --topics", "--qrels dl19-passage", "biencoder-nq-train.json.gz"):
        assert words in out


def test_the_report_shows_it(place, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="figures need matplotlib")
    _, data, _, store, _ = place
    where = ["--data", str(data), "--work", str(store.work), "--model", "no/model", "--depth", str(DEPTH)]
    assert report.main([*where, "--output", str(tmp_path / "page.html")]) == 0
    html = (tmp_path / "page.html").read_text("utf-8")
    assert "TREC DL 2019" in html and "(of TREC DL 2019 nDCG@10)" in html and "R@k of TREC" not in html
    assert "1,000,000" in html and 'id="cost"' in html


def test_own_judgements(place, tmp_path, capsys):
    folder = place[0]
    run, topics, out = folder / "dl19" / "run.bm25.txt", folder / "dl19" / "topics.tsv", tmp_path / "qrels"
    words = ["--run", str(run), "--topics", str(topics), "--output", str(out)]
    given = str(folder / "dl19" / "qrels.txt")
    assert judge.main([*words, "--qrels", given]) == 0
    assert read_qrels(str(out)) == read_qrels(given)
    bad = tmp_path / "bad"
    for text, more, said in (
        ("99 0 p1 1\n", [], "none of its topics (first: 99)"),
        ("0 0 other 1\n", [], "judges no passage of"),
        ("0 0 p1 1\n", ["--corpus", "x"], "leave --index and --corpus out"),
        ("0 0 p1\n", [], "bad:1"),
    ):
        bad.write_text(text)
        capsys.readouterr()
        assert judge.main([*words, "--overwrite", "--qrels", str(bad), *more]) == 2
        assert said in capsys.readouterr().err
    assert judge.main([*words, "--overwrite", "--qrels", "answers"]) == 2
    assert "leave --qrels out" in capsys.readouterr().err


def test_an_adapter_is_known_by_its_content(tmp_path):
    from qpeft_rerank.adapters.find import CONFIG, WEIGHTS

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / CONFIG).write_text("{}")
        (tmp_path / name / WEIGHTS).write_bytes(b"x")
    first, second = (adapter_source(str(tmp_path / name)) for name in ("a", "b"))
    assert first.digest == second.digest
    (tmp_path / "b" / WEIGHTS).write_bytes(b"y")
    assert adapter_source(str(tmp_path / "b")).digest != first.digest
    assert not adapter_source("smollm2-135m-a").digest.startswith("name")
    hub = adapter_source("who/what")
    assert (hub.digest, hub.short) == ("name who/what", "who/what") and first.short == first.digest[:12]


def test_figures_are_of_an_adapter_as_it_was(place, tmp_path):
    from qpeft_rerank.adapters.find import CONFIG, WEIGHTS

    _, _, chain, _, listed = place
    (condition,) = (one for one in listed if one.method.name == "general-a")
    for name in (CONFIG, WEIGHTS):
        (tmp_path / name).write_text("{}")

    def parameters(adapter):
        method = dataclasses.replace(condition.method, adapter=adapter)
        return parameters_of(dataclasses.replace(condition, method=method), chain)

    before = parameters(str(tmp_path))
    assert parameters(str(tmp_path)) == before and len(before["adapter"]) == 12
    (tmp_path / WEIGHTS).write_text("others")
    assert parameters(str(tmp_path)) != before
    assert parameters("who/what")["adapter"] == "who/what"
    assert all("adapter" not in parameters_of(one, chain) for one in listed if one.method.kind != "ready")


def test_a_table_must_have_something_to_compare():
    def tells(table, *names):
        return report._tells(MATRIX.tables[table], [parse_condition(MATRIX, f"nq.bm25.{name}") for name in names])

    assert not tells("general", "first-stage", "zero-shot") and tells("general", "zero-shot", "general-a")
    assert not tells("ablation-queries", "zero-shot", "qpeft-a.queries-320")
    assert tells("ablation-queries", "qpeft-a.queries-320", "qpeft-a.queries-80")
