"""Means, marks and renderings, on hand-made values."""

import dataclasses
import re

import numpy
import pytest

from eval import expectations, tables
from eval.conditions import Condition
from eval.design import load_matrix
from eval.results import better, comparisons, groups, means, weighted
from eval.values import Values, answered_topics, read_values
from qpeft_rerank.errors import InputError

MATRIX = load_matrix()
TOPICS = tuple(map(str, range(40)))
ANSWERED = frozenset(TOPICS[:30])


def values(per_topic):
    return Values({"R@10": per_topic, "H@10": per_topic}, TOPICS, ANSWERED)


def measured(datasets=("nq",)):
    """The first stage finds little, zero-shot half, Q-PEFT-A all that is there."""
    draw = numpy.random.default_rng(0)
    found = {}
    for dataset in datasets:
        for method, share in (("first-stage", 0.1), ("zero-shot", 0.5), ("qpeft-a", 1.0)):
            condition = Condition(MATRIX.datasets[dataset], MATRIX.first_stages["bm25"], MATRIX.methods[method])
            hits = draw.random(len(TOPICS)) < share
            found[condition] = values({t: float(t in ANSWERED and hit) for t, hit in zip(TOPICS, hits, strict=True)})
    return found


SHOWN = tables.Shown(["R@10", "H@10"], "first-stage", "zero-shot")


def frame(found, shown=SHOWN, convention="clean", style=tables.MARKDOWN):
    compared = comparisons(found, shown.measures)
    return tables.layout(means(found, shown.measures), compared, shown, convention, style)


def test_clean_and_full_lists():
    found = means(measured(), ["R@10"]).set_index(["row", "convention"])
    clean, full = found.loc[("qpeft-a", "clean")], found.loc[("qpeft-a", "full")]
    assert (clean["mean"], clean.topics) == (100.0, 30) and (full["mean"], full.topics) == (75.0, 40)
    assert full.low < 75 < full.high and (clean.low, clean.high) == (100, 100)


def test_best_in_bold_and_daggers():
    shown = frame(measured())
    cells = dict(zip(shown["Method"], shown["R@10"], strict=True))
    assert cells["Q-PEFT-A"] == "**100.00**†‡"
    assert cells["Zero-shot, plain"].endswith("†") and "**" not in cells["Zero-shot, plain"]
    assert "†" not in cells["First stage"] and list(shown["Topics"]) == ["30"] * 3


def test_a_worse_row_has_no_dagger():
    found = measured()
    swapped = dict(zip(found, reversed(found.values()), strict=True))
    shown = frame(swapped)
    assert not any("†" in cell or "‡" in cell for cell in shown["R@10"])
    assert better(comparisons(swapped, ["R@10"]), "first stage", "first-stage") == set()


def test_corrections_are_within_a_family():
    compared = comparisons(measured(), ["R@10"])
    clean = compared[(compared.convention == "clean")]
    against = clean[clean.family == "first stage"]
    assert set(against.row) == {"zero-shot", "qpeft-a"} and len(clean[clean.family == "rerankers"]) == 1
    assert against.t_holm.min() == pytest.approx(2 * against.t.min())
    between = clean[clean.family == "rerankers"].iloc[0]
    assert between.t_holm == between.t and (between.row, between.against) == ("qpeft-a", "zero-shot")


def test_the_mean_counts_each_data_set_the_same():
    assert weighted([numpy.zeros(10), numpy.ones(30)]).mean() == pytest.approx(0.5)
    found = measured(("nq", "squad"))
    shown = means(found, ["R@10"])
    shown = shown[(shown.row == "zero-shot") & (shown.convention == "clean")].set_index("dataset")["mean"]
    assert shown["mean"] == pytest.approx((shown["nq"] + shown["squad"]) / 2)
    assert [group.dataset for group in groups(found)] == ["nq", "squad", "mean"]
    # Rows that differ have no mean.
    assert [group.dataset for group in groups(dict(list(found.items())[:-1]))] == ["nq", "squad"]
    assert "Mean" in list(frame(found)["Data"])


def test_a_mean_with_a_data_set_without_topics_is_compared_with_nothing():
    found = measured(("nq", "trivia"))
    for condition in [one for one in found if one.dataset.name == "trivia"]:
        found[condition] = dataclasses.replace(found[condition], answered=frozenset())
    compared = comparisons(found, ["R@10"])
    clean = compared[(compared.dataset == "mean") & (compared.convention == "clean")]
    assert len(clean) and clean.difference.isna().all() and (clean.t == 1.0).all()
    assert not compared[compared.dataset == "nq"].difference.isna().any()


def test_a_list_without_topics_has_no_figures():
    found = {one: dataclasses.replace(values, answered=frozenset()) for one, values in measured().items()}
    shown = frame(found)
    assert set(shown["R@10"]) == {"–"} and set(shown["Topics"]) == {"0"}
    rows = means(found, ["R@10"])
    stored = expectations.entry(PARAMETERS, rows[rows.row == "zero-shot"])
    assert stored["clean"] == {} and stored["full"].keys() == {"R@10"}


def test_captions_say_which_topics_are_left_out():
    sets = {name: MATRIX.datasets[name] for name in ("nq", "dl19")}
    for named, said in (
        (["nq"], "topics without a relevant candidate left out"),
        (["dl19"], "topics without a relevant passage left out"),
        (["nq", "dl19"], "candidate (of sets with judgements of their own: a relevant passage) left out"),
    ):
        datasets = [sets[name] for name in named]
        assert said in tables.caption_of(SHOWN, "clean", {}, "", datasets)
        assert "all topics" in tables.caption_of(SHOWN, "full", {}, "", datasets)


def test_markdown_is_a_table():
    lines = tables.markdown(frame(measured())).splitlines()
    assert lines[0] == "| Data | Method | R@10 | H@10 | Topics |" and lines[1].count("---:") == 3
    assert len({line.count("|") for line in lines}) == 1 and len(lines) == 5


def test_latex_is_escaped():
    found = measured()
    odd = {dataclasses.replace(c, method=dataclasses.replace(c.method, title="50% & a_b")): v for c, v in found.items()}
    text = tables.latex(frame(odd, style=tables.LATEX), "caption", "tab:x")
    assert r"50\% \& a\_b" in text and r"\textbf{100.00}$^\dagger$$^\ddagger$" in text
    assert r"\toprule" in text and r"\label{tab:x}" in text
    assert tables.LATEX.plain("a\\b~{}") == r"a\textbackslash{}b\textasciitilde{}\{\}"


def test_published_figures_have_a_column_of_their_own():
    figures = {key: "; ".join(said) for key, said in expectations.published(MATRIX).items()}
    assert not any(key[2].startswith(("qpeft", "hints", "lora")) for key in figures)
    shown = frame(measured(), dataclasses.replace(SHOWN, published=figures))
    cells = dict(zip(shown["Method"], shown["Published"], strict=True))
    assert cells["First stage"] == "BM25: H@20 62.94 [pyserini]" and cells["Q-PEFT-A"] == ""
    assert "Published" not in frame(measured()).columns


def test_published_figures_are_as_they_were_printed():
    said = " ".join(text for listed in expectations.published(MATRIX).values() for text in listed)
    for figure in ("32.31", "59.45", "42.33", "64.78", "36.17", "71.80", "83.60", "83.00", "78.60", "72.90"):
        assert figure in said
    sources = expectations.sources(MATRIX)
    assert set(sources) == {"pyserini", "pspt", "upr"}
    # Whoever reads a table can find them.
    assert re.findall(r"(\S+)\.md", " ".join(sources.values())) == ["(docs/experiments-dpr"]


PARAMETERS = {"depth": 20}


@pytest.mark.parametrize(
    ("stored", "verdict", "dtype"),
    [
        (100.0, "[OK]", None),
        (100.01, "[OK]", None),
        (99.5, "[OKish]", None),
        (90.0, "[FAIL] expected R@10 90.00 (clean)", None),
        (None, "[new]", None),
        ("other parameters", "[new]", None),
        # Thirty topics are in the clean list: one of them moves a figure by 3.3 points.
        (97.0, "[OKish]", "mixed"),
        (97.0, "[FAIL] expected R@10 97.00 (clean)", "float32"),
        (97.0, "[FAIL] expected R@10 97.00 (clean)", None),
        (96.0, "[FAIL] expected R@10 96.00 (clean)", "mixed"),
    ],
)
def test_verdicts(tmp_path, stored, verdict, dtype):
    rows = means(measured(), ["R@10"])
    rows = rows[rows.row == "qpeft-a"]
    entry = expectations.entry(PARAMETERS, rows)
    assert entry == {"parameters": PARAMETERS, "clean": {"R@10": 100.0}, "full": {"R@10": 75.0}}
    parameters = PARAMETERS | ({"dtype": dtype} if dtype else {})
    entry["parameters"] = parameters
    if stored == "other parameters":
        entry["parameters"] = {"depth": 100}
    elif stored is not None:
        entry["clean"]["R@10"] = stored
    import yaml

    more = {"parameters": {"depth": 7}, "clean": {"R@10": 1.0}}
    for entries in (entry, [more, entry]):
        figures = {} if stored is None else {"mini": {"c": entries}}
        text = yaml.safe_dump({"tolerance": {"ok": 0.02, "okish": 1.0, "topics": 1}, "figures": figures})
        (tmp_path / "expected.yaml").write_text(text)
        assert expectations.Expected(tmp_path, "mini").verdict("c", parameters, rows) == verdict


def test_figures_of_other_measures_are_no_expectation(tmp_path):
    (tmp_path / "expected.yaml").write_text(
        "tolerance: {ok: 0.02, okish: 1.0, topics: 1}\n"
        "figures: {mini: {c: {parameters: {depth: 20}, clean: {nDCG@10: 52.6}}}}\n"
    )
    rows = means(measured(), ["R@10"])
    assert expectations.Expected(tmp_path, "mini").verdict("c", PARAMETERS, rows[rows.row == "qpeft-a"]) == "[new]"


def test_bad_expectations(tmp_path):
    (tmp_path / "expected.yaml").write_text("figures: {}")
    with pytest.raises(InputError, match="has tolerance"):
        expectations.Expected(tmp_path, "mini")


@pytest.mark.parametrize(
    "stored",
    [
        "3",
        "[{parameters: {depth: 20}}, 7]",
        "{clean: {R@10: 1.0}}",
        "{parameters: {depth: 20}, clean: [1.0]}",
        "{parameters: {depth: 20}, full: {R@10: high}}",
    ],
)
def test_what_was_pasted_wrongly_is_told_in_one_line(tmp_path, stored):
    tolerance = "tolerance: {ok: 0.02, okish: 1.0, topics: 1}\n"
    (tmp_path / "expected.yaml").write_text(f"{tolerance}figures: {{mini: {{c: {stored}}}}}\n")
    with pytest.raises(InputError, match="mini, c: has parameters, and under clean and full a number by measure"):
        expectations.Expected(tmp_path, "mini")
    (tmp_path / "expected.yaml").write_text(f"{tolerance}figures: {{mini: 3}}\n")
    with pytest.raises(InputError, match="mini: has figures by condition"):
        expectations.Expected(tmp_path, "mini")


@pytest.mark.parametrize("values", ["{H@20: high}", "[H@20]", "62.9"])
def test_bad_published_figures(tmp_path, values):
    figure = f"{{dataset: nq, first_stage: bm25, method: first-stage, as: A, source: s, values: {values}}}"
    (tmp_path / "published.yaml").write_text(f"sources: {{s: S}}\nfigures:\n  - {figure}\n")
    with pytest.raises(InputError, match=r"published.yaml: a figure has dataset, .* values: {measure: number}"):
        expectations.published(dataclasses.replace(MATRIX, folder=tmp_path))


def test_values_are_read_or_refused(tmp_path):
    path = tmp_path / "values.json"
    path.write_text('{"runs": [{"per_topic": {"R@10": {"1": 0.5, "2": 0.0}}}]}')
    found = read_values(path, frozenset({"1", "7"}))
    assert found.answered == {"1"} and list(found.array("R@10", "clean")) == [0.5]
    assert list(found.array("R@10", "full")) == [0.5, 0.0]
    for text in ("", "[]", '{"runs": []}', '{"runs": [{"per_topic": {}}]}', '{"runs": [{"per_topic": 3}]}'):
        path.write_text(text)
        with pytest.raises(InputError, match="not the measures of a run"):
            read_values(path, frozenset())
    (tmp_path / "qrels").write_text("1 0 a 0\n1 0 b 1\n2 0 a 0\n")
    assert answered_topics(tmp_path / "qrels") == {"1"}


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "<0.001"), (0.00049, "<0.001"), (0.0006, "0.001"), (0.0499, "0.050"), (1.0, "1.000")]
)
def test_p_values_are_never_zero(p, text):
    assert tables.p_value(p) == text
