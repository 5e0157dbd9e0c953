"""One page of what is finished: ``python -m eval.report --scale mini --data DIR --output report.html``.

Nothing is run: conditions are looked for in the work folder by their content, so give the options of
:mod:`eval.reproduce` that they were made with.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from eval import selection
from eval.design import CUTS, MEASURES
from eval.records import known
from eval.store import Store
from qpeft_rerank import console
from qpeft_rerank.errors import InputError
from qpeft_rerank.pages import page_template
from qpeft_rerank.trec.output import check_output, write_lines

if TYPE_CHECKING:
    from eval.conditions import Condition
    from eval.design import Table
    from eval.parts import Material, Section


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m eval.report",
        description="Write tables and figures of all finished conditions as one HTML page. Runs no experiment; "
        "give the options that eval.reproduce was given.",
    )
    what = selection.add_what(parser)
    what.add_argument("--measure", default="R@10", metavar="M", help="that figures show (R@10)")
    where = selection.add_where(parser)
    where.add_argument("--output", required=True, metavar="F.html", help="the page")
    where.add_argument("--overwrite", action="store_true", help="replace an existing page")
    selection.add_size(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    if not (args.table or args.condition):
        args.all = True
    return console.run(lambda: _report(args))


def _report(args: argparse.Namespace) -> int:
    check_output(args.output, args.overwrite)
    known("--measure", "measure", [args.measure], MEASURES)
    selected = selection.select(args)
    chain, store = selection.chain_of(args, selected), Store(args.work)
    done = selection.finished(selected, chain, store)
    conditions = [condition for condition, complete in done.items() if complete]
    if not conditions:
        raise InputError(
            f"--work {args.work}: none of {len(done)} conditions is finished with these options; run them with "
            "python -m eval.reproduce, or give the options that it was given"
        )
    console.say(f"{len(conditions)} of {len(done)} conditions are finished")
    from eval.parts import Material
    from eval.publish import read_measured

    measured = read_measured(conditions, chain, store)
    material = Material(measured, chain, store, selected.matrix, args.measure)
    write_lines(args.output, [page(sections(selected, material), material)])
    console.say(f"wrote {args.output}")
    return 0


def sections(selected: selection.Selection, material: "Material") -> "list[Section]":
    """All sections that there is something for: tables, figures, then ablations."""
    from eval import sections as made

    tables = {
        name: made.table_section(table, listed, material)
        for name, (table, listed) in selected.wanted.items()
        if _tells(table, [condition for condition in listed if condition in material.measured])
    }
    varied = [name for name in tables if selected.wanted[name][0].vary is not None]
    found = [tables[name] for name in tables if name not in varied]
    found += [
        made.cost_section(material),
        made.curve_section(material, CUTS),
        made.gain_section(material),
        made.scatter_section(material),
        made.fusion_section(material),
        made.training_section(material),
    ]
    found += [tables[name] for name in varied]
    return [section for section in found if section is not None]


def _tells(table: "Table", finished: "Sequence[Condition]") -> bool:
    """Tell whether a table has something to compare: two values of what it varies, or a reranker beside its reference.

    Tables share conditions, and the rest would only be said again.
    """
    if table.vary is not None:
        return len({condition.variant for condition in finished if condition.setting}) > 1
    rerankers = {condition.row for condition in finished if condition.method.kind != "first-stage"}
    return bool(rerankers - {table.reference}) or (bool(rerankers) and len(table.methods) <= 2)


def page(listed: "Sequence[Section]", material: "Material") -> str:
    """The page, as HTML that needs nothing else."""
    from eval import expectations, provenance

    template = page_template(Path(__file__).with_name("report.html").read_text("utf-8"))
    steps = provenance.steps_of(material.measured, material.chain)
    scale = material.chain.scale
    return template.render(
        scale=scale,
        parameters=scale.described(),
        sections=listed,
        finished=[condition.name for condition in material.measured],
        ran=provenance.ran(steps, material.store),
        sources=provenance.sources_of(steps),
        versions=provenance.versions_of(steps, material.store),
        published=expectations.sources(material.matrix) if scale.published else {},
    )


if __name__ == "__main__":
    sys.exit(main())
