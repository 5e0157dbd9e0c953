"""Writes a table's files: Markdown, LaTeX, CSV, significance, cost, and its figures as expectations."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from eval import costs, expectations, parameters, provenance, tables
from eval.chain import Chain
from eval.conditions import Condition
from eval.design import Matrix, within
from eval.results import comparisons, means
from eval.store import Store
from eval.values import Values, answered_topics, read_values
from qpeft_rerank.trec.output import write_lines


def read_measured(conditions: Sequence[Condition], chain: Chain, store: Store) -> dict[Condition, Values]:
    """What was measured for conditions whose steps are done."""
    measured = {}
    answered: dict[str, frozenset[str]] = {}
    for condition in conditions:
        step = chain.judgements(condition)
        if step.key not in answered:
            answered[step.key] = answered_topics(step.place(store.work))
        path = chain.evaluation(condition).place(store.work)
        measured[condition] = read_values(path, answered[step.key])
    return measured


def publish(
    name: str,
    title: str,
    measures: Sequence[str],
    reference: str | None,
    conditions: Sequence[Condition],
    chain: Chain,
    store: Store,
    matrix: Matrix,
    folder: Path,
) -> str:
    """Write a table's files into ``folder``; return the Markdown of its clean list and of its cost."""
    import yaml

    measured = read_measured(conditions, chain, store)
    measures = within(measures, chain.scale.depth)
    found, compared = means(measured, measures), comparisons(measured, measures)
    expected = expectations.Expected(matrix.folder, chain.scale.name)
    checks, entries = {}, {}
    for condition in conditions:
        place = (condition.dataset.name, condition.first_stage.name, condition.row)
        rows = found[(found.dataset == place[0]) & (found.first_stage == place[1]) & (found.row == place[2])]
        asked = parameters.parameters_of(condition, chain)
        checks[place] = expected.verdict(condition.name, asked, rows)
        entries[condition.name] = expectations.entry(asked, rows)
    shown = tables.Shown(
        measures,
        next((c.row for c in conditions if c.method.kind == "first-stage"), None),
        reference if reference in {condition.row for condition in conditions} else None,
        published_beside(conditions, matrix) if chain.scale.published else None,
        checks,
    )
    text, tex, told = [f"# {title}\n"], [], parameters.said(conditions, chain.scale)
    for convention in ("clean", "full"):
        topics = tables.topics_of(found[found.convention == convention])
        datasets = [condition.dataset for condition in conditions]
        caption = tables.caption_of(shown, convention, told, topics, datasets)
        frame = tables.layout(found, compared, shown, convention, tables.MARKDOWN)
        text.append(f"## {convention.capitalize()} list\n\n{tables.markdown(frame)}\n{caption}\n")
        frame = tables.layout(found, compared, shown, convention, tables.LATEX)
        escaped = tables.LATEX.plain(f"{title}. {caption}").replace("†", r"$^\dagger$").replace("‡", r"$^\ddagger$")
        tex.append(tables.latex(frame, escaped, f"tab:{name}-{convention}"))
    if shown.published:
        named = "; ".join(f"[{short}] {said}" for short, said in expectations.sources(matrix).items())
        text.append(f"Published by others, on other samples or models, for orientation: {named}.\n")
    cost = costs.costs(measured, chain, store)
    table = tables.markdown(costs.shown(cost).map(tables.MARKDOWN.plain))
    said = f"## Cost\n\n{table}\n{costs.CAPTION}\n"
    text.append(_commands(conditions, chain, store))
    tables.results_folder(folder)
    write_lines(str(folder / "table.md"), ["\n".join(text)])
    write_lines(str(folder / "table.tex"), ["\n".join(tex)])
    write_lines(str(folder / "table.csv"), [found.to_csv(index=False)])
    # In a file of its own: figures come out the same again, times do not.
    write_lines(str(folder / "cost.md"), [said])
    write_lines(str(folder / "cost.csv"), [cost.to_csv(index=False)])
    write_lines(str(folder / "significance.csv"), [compared.to_csv(index=False)])
    stored = {"figures": {chain.scale.name: entries}}
    write_lines(str(folder / "expected.yaml"), [yaml.safe_dump(stored, sort_keys=False)])
    return "\n".join([*text[:2], said])


def published_beside(conditions: Sequence[Condition], matrix: Matrix) -> Mapping[tuple[str, str, str], str]:
    """(dataset, first stage, row) to what others published near it."""
    figures = expectations.published(matrix)
    return {
        (*key[:2], condition.row): "; ".join(figures[key])
        for condition in conditions
        if (key := (condition.dataset.name, condition.first_stage.name, condition.method.name)) in figures
        and condition.setting is None
    }


def _commands(conditions: Sequence[Condition], chain: Chain, store: Store) -> str:
    """The exact commands, each with its output's SHA-256, and the versions that ran them."""
    lines = ["## Commands\n", "```sh"]
    steps = provenance.steps_of(conditions, chain)
    for step in provenance.ran(steps, store):
        lines += [f"# {step.name}: {step.output}", step.command]
    lines.append("```")
    for of, found in provenance.versions_of(steps, store):
        lines += ["", f"{of}: {json.dumps(found) if found else 'not in their records'}"]
    return "\n".join([*lines, ""])
