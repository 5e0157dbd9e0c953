"""Mix rerankers with their first stage: ``python -m eval.fusion --table main --scale mini --data DIR``.

``alpha * likelihood + (1 - alpha) * first stage``, both min-max-normalised over a topic's candidates. Alpha is
chosen on the dev questions, which are reranked for it, and the mixture is shown on the test questions.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eval import selection
from eval.commands import shell
from eval.design import MEASURES
from eval.records import known
from eval.steps import Step, ordered
from eval.store import Store
from qpeft_rerank import console
from qpeft_rerank.errors import InputError

if TYPE_CHECKING:
    import pandas

    from eval.mixing import Fused


def _parser() -> argparse.ArgumentParser:
    parser = console.Parser(
        prog="python -m eval.fusion",
        description="Choose the weight of the likelihood against the first stage on dev questions, show it on test.",
    )
    what = selection.add_what(parser)
    what.add_argument("--measure", default="R@10", metavar="M", help="that alpha is chosen by, and shown (R@10)")
    what.add_argument("--dry-run", action="store_true", help="print the commands that are still to run; run nothing")
    selection.add_results(selection.add_where(parser), "fusion")
    selection.add_size(parser)
    selection.add_how(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status (0, or 2 with one line on stderr)."""
    args = _parser().parse_args(argv)
    return console.run(lambda: _fuse(args), resumes=True)


def _fuse(args: argparse.Namespace) -> int:
    known("--measure", "measure", [args.measure], MEASURES)
    selected = selection.select(args)
    chain, store = selection.chain_of(args, selected), Store(args.work)
    conditions = [condition for condition in selected.conditions if condition.method.kind != "first-stage"]
    if not conditions:
        raise InputError("nothing to mix: only first stages were asked for; add a reranker to --methods")
    last: list[Step] = []
    for condition in conditions:
        last += [chain.rerank(condition), chain.judgements(condition)]
        if chain.has_dev(condition):
            last += [chain.rerank(condition, "dev"), chain.judgements(condition, "dev")]
    steps = ordered(last)
    if args.dry_run:
        for step in steps:
            print(f"# {step.kind} {step.label}: {'done' if store.is_done(step) else 'to do'}")
            print(shell(step, store.work))
        return 0
    from eval import runner
    from eval.mixing import fuse
    from eval.tables import markdown, results_folder
    from qpeft_rerank.trec.output import write_lines

    with store.alone():
        runner.run(steps, store, args.together, selection.jobs(args, selected.scale))
        fused = [fuse(one, chain, store, one.dataset.measure(args.measure)) for one in conditions]
    folder = results_folder(args.results or args.work / "results" / selected.scale.name / "fusion")
    text = markdown(summary(fused)) + "\n" + caption(fused) + "\n"
    write_lines(str(folder / "table.md"), [f"# Mixtures with the first stage\n\n{text}"])
    write_lines(str(folder / "sweep.csv"), [curves(fused).to_csv(index=False)])
    print(text)
    console.say(f"wrote {folder}")
    return 0


def summary(fused: "Sequence[Fused]") -> "pandas.DataFrame":
    """A row of strings a reranker: alpha, and the measure in points alone and mixed."""
    import pandas

    from eval import significance
    from eval.mixing import ALPHAS
    from eval.tables import p_value

    mixed = [one for one in fused if one.chosen is not None and len(one.test)]
    gains = {one.condition: one.test[:, [one.chosen]] - one.test[:, [-1]] for one in mixed}
    p_values = significance.holm([float(significance.randomisation(gain)[0]) for gain in gains.values()])
    corrected = dict(zip(gains, p_values, strict=True))
    several = _several(fused)
    records = []
    for one in fused:
        points = [f"{100 * value:.2f}" for value in one.curve] or ["–"] * len(ALPHAS)
        condition, place = one.condition, one.chosen
        records.append(
            {
                "Data": condition.dataset.title,
                **({"First stage": condition.first_stage.title} if several else {}),
                "Method": condition.title,
                "First stage alone": points[0],
                "Model alone": points[-1],
                "Alpha": "no dev" if place is None else f"{ALPHAS[place]:.2f}",
                "Mixed": "–" if place is None else points[place],
                "p": p_value(corrected[condition]) if condition in corrected else "–",
            }
        )
    return pandas.DataFrame(records)


def caption(fused: "Sequence[Fused]") -> str:
    """What the table's columns are."""
    several = _several(fused)

    def place(one: "Fused") -> str:
        data, stage = one.condition.dataset.title, one.condition.first_stage.title
        return f"{data} under {stage}" if several else data

    lacking: dict[str, list[str]] = {}
    for one in fused:
        if one.dev is None:
            lacking.setdefault(place(one), []).append(one.condition.title)
    counts = Counter(place(one) for one in fused)
    named = [data if len(rows) == counts[data] else f"{data} ({'; '.join(rows)})" for data, rows in lacking.items()]
    plain = f" No dev run exists for {', '.join(named)}, so no alpha is chosen there." if named else ""
    measures = " or ".join(dict.fromkeys(one.measure for one in fused))
    return (
        f"{measures} in points on the test questions, clean list: of the first stage, of the model, and of "
        "their mixture with alpha, the weight of the likelihood, that is best on the dev questions. p: the mixture "
        f"against the model, randomisation test, corrected by Holm over the table.{plain}"
    )


def _several(fused: "Sequence[Fused]") -> bool:
    """Tell whether a table is about more than one first stage."""
    return len({one.condition.first_stage.name for one in fused}) > 1


def curves(fused: "Sequence[Fused]") -> "pandas.DataFrame":
    """Every alpha of every reranker: means in points on test and dev."""
    import pandas

    from eval.mixing import ALPHAS

    records = [
        {
            "condition": one.condition.name,
            "measure": one.measure,
            "alpha": alpha,
            "test": 100 * value,
            "dev": None if one.dev is None else 100 * one.dev[place],
            "chosen": place == one.chosen,
        }
        for one in fused
        for place, (alpha, value) in enumerate(zip(ALPHAS, one.curve, strict=False))
    ]
    return pandas.DataFrame(records, columns=["condition", "measure", "alpha", "test", "dev", "chosen"])


if __name__ == "__main__":
    sys.exit(main())
