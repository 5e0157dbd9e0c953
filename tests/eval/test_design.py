"""The matrix: what is wrong in its files is told in one line."""

import shutil

import pytest

from eval import reproduce
from eval.conditions import conditions_of, parse_condition
from eval.design import CHOICES, FOLDER, MEASURES, load_matrix, within
from eval.records import read_yaml
from qpeft_rerank import train
from qpeft_rerank.errors import InputError
from qpeft_rerank.training.losses import LOSSES
from qpeft_rerank.training.presets import PRESETS


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("tables.yaml", "datasets: [nq,", "datasets: [nqq,", "no dataset 'nqq'; give nq"),
        ("tables.yaml", "methods: [first-stage,", "methods: [best,", "no method 'best'"),
        ("tables.yaml", "measures: [R@10,", "measures: [R@11,", "no measure 'R@11'; give R@1"),
        ("tables.yaml", "setting: k,", "setting: kk,", "no setting 'kk'; give k"),
        ("tables.yaml", "values: [5, 10,", "values: [5, ten,", "k is a whole number, not 'ten'"),
        (
            "tables.yaml",
            "[meta-llama/Llama-2-7b-hf,",
            "[other/Mistral-7B-v0.1,",
            "would both be called Mistral-7B-v0.1",
        ),
        ("tables.yaml", "setting: k,", "seting: k,", "vary has a setting and a list of values"),
        ("tables.yaml", "[nq, trivia, webq, squad]", "nq", "main: datasets is a list of texts, not 'nq'"),
        ("tables.yaml", "measures: [nDCG@10, MRR@10]", "measures:", "measures is a list of texts, not None"),
        ("tables.yaml", "first_stages: [bm25]", "first_stages: []", "main: names no first stages"),
        ("tables.yaml", "{setting: k, values: [5, 10, 15, 20]}", "k", "vary is a mapping or nothing, not 'k'"),
        ("scales.yaml", "  epochs: 1\n", "  recipe: {epochs: 1}\n", "no setting 'epochs'"),
        ("scales.yaml", "  epochs: 1\n", "  recipe: {in_batch: 1}\n", "in_batch is true or false, not 1"),
        ("scales.yaml", "  depth: 100\n", "", "full has no depth"),
        ("scales.yaml", "  depth: 100\n", "  depth: ten\n", "full: depth is a whole number, not 'ten'"),
        # YAML takes this for a word.
        ("scales.yaml", "memory: 7.0e+9", "memory: 7e9", "mini: memory is a number or nothing, not '7e9'"),
        ("methods.yaml", "kind: prompt", "kind: promt", "no kind 'promt'; give prompt"),
        ("methods.yaml", "  adapter: lora\n", "", "needs an adapter"),
        ("methods.yaml", "adapter: lora", "adaptor: lora", "no key 'adaptor'; give adapter"),
        ("methods.yaml", "options: {source: random}", "options: random", "options is a mapping, not 'random'"),
        ("datasets.yaml", "nq:\n", "nq: [\n", "not YAML"),
        ("datasets.yaml", "test_size: 3610", "test_size: true", "nq: test_size is a whole number, not True"),
        ("datasets.yaml", "trained_on: nq", "trained_on: nqq", "no dataset 'nqq'"),
        ("datasets.yaml", "    run: ../dl19/run.bm25.txt\n", "", "given has topics, corpus, qrels and run"),
        ("datasets.yaml", "    run: ../dl19", "    runs: ../dl19", "no file 'runs'; give run"),
        ("first-stages.yaml", "kind: search", "kind: dense", "no kind 'dense'"),
        # Each of these was taken for something else, or ended in a traceback, perhaps hours later.
        ("first-stages.yaml", "  b: 0.4\n", "", "bm25: k1 and b go together; set both or neither"),
        ("first-stages.yaml", "kind: search", "kind: run", "bm25: kind run needs a path"),
        ("first-stages.yaml", "kind: search", "kind: search\n  path: x.trec", "kind search takes no path"),
        ("methods.yaml", "hints: before", "hints: befor", "no hints 'befor'; give before"),
        ("methods.yaml", "loss: contrastive", "loss: contrasting", "no loss 'contrasting'; give contrastive"),
        ("methods.yaml", "preset: faithful", "preset: faithfull", "no preset 'faithfull'; give faithful"),
        ("methods.yaml", "decay: constant", "decay: none", "no decay 'none'; give "),
        ("tables.yaml", "values: [after, before]", "values: [after, befor]", "no hints 'befor'"),
        ("tables.yaml", "values: [5, 10, 15, 20]", "values: []", "ablation-k: vary names no values"),
        ("scales.yaml", "  depth: 20\n", "  depth: 0\n", "mini: depth is a number from 1, not 0"),
        ("scales.yaml", "  topics: 50 ", "  topics: -1 ", "mini: topics is a number from 0, not -1"),
        ("scales.yaml", "memory: 7.0e+9", "memory: 0", "mini: memory is a number above 0, not 0; or leave it out"),
        ("scales.yaml", "memory: 7.0e+9", "memory: .nan", "mini: memory is a number above 0, not nan"),
        ("scales.yaml", "pick: first", "pick: frist", "no pick 'frist'; give first"),
        ("scales.yaml", "dtype: mixed", "dtype: mxed", "no dtype 'mxed'; give mixed"),
        ("methods.yaml", "general-r:", "general.r:", "general.r: names are made of letters, digits, _ and -"),
    ],
)
def test_a_bad_matrix(tmp_path, capsys, file, old, new, said):
    folder = tmp_path / "matrix"
    shutil.copytree(FOLDER, folder)
    text = (folder / file).read_text()
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1))
    assert reproduce.main(["--list", "--matrix", str(folder)]) == 2
    err = capsys.readouterr().err
    assert said in err and str(folder / file) in err and err.count("\n") == 1


def test_words_are_those_that_training_takes():
    assert CHOICES["loss"] == LOSSES and set(PRESETS) < set(CHOICES["preset"])
    [decay] = [action for action in train._parser()._actions if action.dest == "decay"]
    assert CHOICES["decay"] == tuple(decay.choices)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a: 1\nb: café\n".encode("latin-1"), "x.yaml:2: not UTF-8; save the file in that encoding"),
        (b"a: 1\nb:\n- 2026-13-45\n", "x.yaml:3: not YAML (month must be in 1..12); mend it, or put it in quotes"),
        (b"a: 1\nb: \x01\n", "x.yaml: not YAML (unacceptable character"),
        # Pasted, and not called otherwise: the first of them was lost without a word.
        (b"a: 1\nb: 2\na: 3\n", "x.yaml:3: not YAML (a for the second time)"),
        (b"a:\n- {b: 1, c: 2, b: 1}\n", "x.yaml:2: not YAML (b for the second time)"),
        (b"a: " + b"[" * 5000 + b"]" * 5000, ": not YAML ("),
    ],
)
def test_what_is_no_yaml_is_one_line(tmp_path, content, said):
    path = tmp_path / "x.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_yaml(path)
    told = str(caught.value)
    assert told.startswith(f"{path}:") and said in told and "\n" not in told


def test_conditions():
    matrix = load_matrix()
    for table in matrix.tables.values():
        for condition in conditions_of(matrix, table):
            assert parse_condition(matrix, condition.name).name == condition.name
    names = [c.name for c in conditions_of(matrix, matrix.tables["ablation-k"])][:6]
    varied = [f"nq.bm25.qpeft-r.k-{k}" for k in (5, 10, 15, 20)]
    assert names == ["nq.bm25.first-stage", "nq.bm25.zero-shot", *varied]
    assert len(MEASURES) == 23


def test_a_cut_below_the_runs_end_is_left_out():
    listed = ["R@5", "R@10", "R@25", "H@20", "MRR@10", "MAP", "nDCG@10"]
    assert within(listed, 20) == ["R@5", "R@10", "H@20", "MRR@10", "MAP", "nDCG@10"]
    assert within(listed, 5) == ["R@5", "R@10", "MRR@10", "MAP", "nDCG@10"] and within(listed, 100) == listed
    assert within(["H@20", "R@25"], 10) == ["H@20", "R@25"]
