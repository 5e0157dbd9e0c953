"""The sections of the report, from finished conditions: tables, legends and panels."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval import costs, fusion, parameters, tables
from eval.conditions import Condition, by_list
from eval.design import Table, within
from eval.figures import ablation, curves, gains, scatter, sweeps, training
from eval.mixing import Fused, fuse, scored_of
from eval.parts import Grid, Material, Rows, Section, Shown
from eval.results import comparisons, means
from eval.values import CONVENTIONS

if TYPE_CHECKING:
    import pandas

_MARKS = re.compile(r"[†‡]*$")


def table_section(table: Table, listed: Sequence[Condition], material: Material) -> Section | None:
    """A table of the matrix in both conventions, and a picture of its varied setting; None if nothing is finished."""
    measured = {condition: material.measured[condition] for condition in listed if condition in material.measured}
    if table.vary is not None:
        # A data set of which one value was tried has nothing to compare.
        tried = {(condition.dataset.name, condition.variant) for condition in measured if condition.setting}
        counts = Counter(dataset for dataset, _ in tried)
        measured = {condition: values for condition, values in measured.items() if counts[condition.dataset.name] > 1}
    if not measured:
        return None
    shown_sets = {condition.dataset.name for condition in measured}
    missing = [c.name for c in listed if c not in measured and c.dataset.name in shown_sets]
    missing += dict.fromkeys(c.dataset.title for c in listed if c.dataset.name not in shown_sets)
    text = f"Not finished, so not shown: {', '.join(missing)}." if missing else ""
    measures = within(table.measures, material.chain.scale.depth)
    found, compared = means(measured, measures), comparisons(measured, measures)
    rows = {condition.row: condition for condition in measured}
    first = next((row for row, condition in rows.items() if condition.method.kind == "first-stage"), None)
    reference = table.reference if table.reference in rows else None
    published = None
    if material.chain.scale.published:
        from eval.publish import published_beside

        published = published_beside(listed, material.matrix)
    shown = tables.Shown(measures, first, reference, published)
    section = Section(f"table-{table.name}", table.title, text)
    for convention in CONVENTIONS:
        frame = tables.layout(found, compared, shown, convention, tables.HTML)
        topics = tables.topics_of(found[found.convention == convention])
        datasets = [condition.dataset for condition in measured]
        caption = tables.caption_of(
            shown, convention, parameters.said(measured, material.chain.scale), topics, datasets
        )
        section.tables.append(_grouped(frame, caption, "" if convention == "clean" else "The full list"))
    if table.vary is not None and any(condition.setting for condition in measured):
        measure = material.measure if material.measure in measures else measures[0]
        clean = found[found.convention == "clean"]
        values = [v for v in table.vary["values"] if any(c.setting and c.value == v for c in measured)]
        section.legend.extend(material.legend(measured))
        panels = ablation.draw(
            table.name, table.vary["setting"], values, list(measured), clean, measure, material.looks
        )
        section.grids.append(Grid(f"{measure} by {table.vary['setting']}, with 95 % intervals", panels))
    return section


def curve_section(material: Material, cuts: Sequence[int]) -> Section | None:
    """R@k and H@k."""
    cuts = [cut for cut in cuts if cut <= material.chain.scale.depth]
    answered = {condition: values for condition, values in material.plain.items() if not condition.dataset.qrels}
    if not answered or len(cuts) < 2:
        return None
    found = means(answered, [f"{letter}@{cut}" for letter in "RH" for cut in cuts])
    found = found[found.convention == "clean"]
    names = (
        ("R", "R@k: the share of the relevant candidates that are among the first k"),
        ("H", "H@k: the share of topics with a relevant one among the first k"),
    )
    return Section(
        "curves",
        "Curves of recall and hits",
        f"Clean list. The runs are {material.chain.scale.depth} deep.",
        legend=material.legend(answered),
        grids=[Grid(said, curves.draw(found, letter, cuts, material.looks)) for letter, said in names],
    )


def gain_section(material: Material) -> Section | None:
    """What each reranker does to single topics: the reference against the first stage, the others against it."""
    grids, reference = [], material.reference
    for (dataset, stage), rows in by_list(material.plain).items():
        base = next((c for c in rows.values() if c.method.kind == "first-stage"), None)
        panels = []
        for row, condition in rows.items():
            against = base if row == reference or reference not in rows else rows[reference]
            if condition is base or against is None:
                continue
            measure = condition.dataset.measure(material.measure)
            values, others = (material.measured[one].array(measure, "clean") for one in (condition, against))
            differences = 100 * (values - others)
            if len(differences):
                panels.append(gains.draw(f"{dataset}-{stage}-{row}", condition.title, against.title, differences))
        if panels:
            grids.append(Grid(_list_title(next(iter(rows.values())), material), panels, small=True))
    text = (
        f"A bar a topic: the difference in {_measures(material)}, in points, from the most gained to the most "
        "lost. Clean list. The model without an adapter stands against the first stage, the others against it."
    )
    return Section("gains", "Gains and losses by topic", text, grids=grids) if grids else None


def scatter_section(material: Material) -> Section | None:
    """First stage by likelihood, for the reference and the best of the others."""
    grids, reference = [], material.reference
    for (dataset, stage), rows in by_list(material.plain).items():
        rerankers = [condition for condition in rows.values() if condition.method.kind != "first-stage"]
        others = [condition for condition in rerankers if condition.row != reference]
        measure = next(iter(rows.values())).dataset.measure(material.measure)
        others.sort(key=lambda one: -float(material.measured[one].array(measure, "clean").sum()))
        chosen = [condition for condition in rerankers if condition.row == reference] + others[:1]
        drawn = [
            scatter.draw(f"{dataset}-{stage}-{one.row}", one.title, scored_of(one, material.chain, material.store))
            for one in chosen
        ]
        panels = [one for one in drawn if one is not None]
        if panels:
            grids.append(Grid(_list_title(chosen[0], material), panels))
    text = (
        "A dot a candidate: its first-stage score and its log-likelihood, both as distances from the mean of its "
        "topic's candidates; blue ones are relevant. Shown are the model without an adapter and the best of the others."
    )
    return Section("scatter", "First stage and model, candidate by candidate", text, grids=grids) if grids else None


def fusion_section(material: Material) -> Section | None:
    """Mixtures by alpha."""
    fused: list[Fused] = [
        fuse(condition, material.chain, material.store, condition.dataset.measure(material.measure))
        for condition in material.plain
        if condition.method.kind != "first-stage"
    ]
    if not fused:
        return None
    shown, grids, panels = material.looks, [], []
    lists: dict[tuple[str, str], list[Fused]] = {}
    for one in fused:
        lists.setdefault((one.condition.dataset.name, one.condition.first_stage.name), []).append(one)
    for (dataset, stage), some in lists.items():
        panel = sweeps.draw(f"{dataset}-{stage}", _list_title(some[0].condition, material), some, shown)
        panels += [panel] if panel else []
    if panels:
        grids.append(Grid("", panels))
    text = (
        "Likelihood and first-stage score, both min-max-normalised over a topic's candidates, are added with the "
        "weights alpha and 1 − alpha. The lines are test questions; a dot marks the alpha that the dev questions choose."
    )
    if any(one.dev is None for one in fused):
        text += (
            " Where there is no dot, no dev run exists: nothing is chosen there, and the best point of a line is no "
            "result. python -m eval.fusion with this page's options makes the dev runs."
        )
    legend = material.legend(one.condition for one in fused)
    table = _grouped(fusion.summary(fused).map(tables.HTML.plain), fusion.caption(fused))
    return Section("fusion", "Mixtures with the first stage", text, [table], legend, grids)


def cost_section(material: Material) -> Section | None:
    """Parameters, time and memory by method."""
    measured = material.plain
    if not any(condition.method.kind != "first-stage" for condition in measured):
        return None
    frame = costs.shown(costs.costs(measured, material.chain, material.store)).map(tables.HTML.plain)
    frame.insert(0, "Data", "All data sets")
    return Section("cost", "Cost", tables=[_grouped(frame, costs.CAPTION)])


def training_section(material: Material) -> Section | None:
    """Loss and dev curves of the adapters."""
    losses, devs, present = [], [], []
    seen: set[str] = set()
    for (dataset, stage), rows in by_list(material.plain).items():
        # A data set that takes another's adapters has nothing of its own to show, if that one is here.
        keys = {row: material.chain.adapter(c).key for row, c in rows.items() if c.method.kind == "trained"}
        trained = {row: rows[row] for row, key in keys.items() if key not in seen}
        seen |= set(keys.values())
        logs = {
            row: training.read_training(
                material.chain.adapter(condition).place(material.store.work), condition.method.title
            )
            for row, condition in trained.items()
        }
        if not logs:
            continue
        name, title = f"{dataset}-{stage}", next(iter(rows.values())).dataset.title
        present += list(trained.values())
        losses.append(training.draw_loss(name, title, logs, material.looks))
        devs.append(training.draw_dev(name, title, logs, material.looks))
    named = (("Loss, running mean over a twentieth of the steps", losses), ("MRR@10 on the dev questions", devs))
    grids = [Grid(heading, found) for heading, drawn in named if (found := [one for one in drawn if one])]
    text = (
        "Epoch 0 is the adapter before training, the large dot the epoch that was kept, the grey line the model "
        "without an adapter."
    )
    return Section("training", "Training", text, legend=material.legend(present), grids=grids) if grids else None


def _grouped(frame: "pandas.DataFrame", caption: str, summary: str = "") -> Shown:
    """A frame of HTML strings whose first column, ``Data``, becomes headings; equal topic counts go there, too."""
    dropped = ["Data"]
    if "Topics" in frame.columns and (frame.groupby("Data", sort=False)["Topics"].nunique() == 1).all():
        dropped.append("Topics")
    columns = [(str(name), name in tables.WORDS) for name in frame.columns if name not in dropped]
    groups = []
    for data, rows in frame.groupby("Data", sort=False):
        topics = f" <small>{rows['Topics'].iloc[0]} topics</small>" if "Topics" in dropped else ""
        listed = rows.drop(columns=dropped).values.tolist()
        cells = [[_cell(cell, said) for cell, (_, said) in zip(row, columns, strict=True)] for row in listed]
        groups.append(Rows(f"{data}{topics}", cells))
    return Shown(caption, columns, groups, summary)


def _cell(text: str, words: bool) -> str:
    """A cell whose marks take the same room in every row, so that figures stand below each other."""
    marks = _MARKS.search(text)
    if words or marks is None:
        return text
    return f'{text[: marks.start()]}<span class="m">{marks[0]}</span>'


def _measures(material: Material) -> str:
    """What figures show, and what those of data sets with graded judgements show."""
    graded = {one.dataset.name: one.dataset for one in material.plain if one.dataset.qrels}
    return material.measure + "".join(f" (of {one.title} {one.measure('')})" for one in graded.values())


def _list_title(condition: Condition, material: Material) -> str:
    """The data set, and the first stage where there are several."""
    several = len({one.first_stage.name for one in material.plain}) > 1
    return condition.dataset.title + (f", {condition.first_stage.title}" if several else "")
