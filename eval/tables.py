"""Tables for people (Markdown, LaTeX) and for programs (CSV)."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from eval.design import Dataset
from eval.results import MEAN, better
from qpeft_rerank.errors import InputError

if TYPE_CHECKING:
    import pandas


#: Columns of words; all others hold figures.
WORDS = ("Data", "First stage", "Method", "Published", "Check")


@dataclass(frozen=True)
class Shown:
    """What a table shows beside its figures.

    :param first: the row that is the first stage, or None; ``reference``: the reranker others are marked against.
    :param published: (dataset, first stage, row) to text; empty for no such column.
    :param checks: (dataset, first stage, row) to a verdict.
    """

    measures: Sequence[str]
    first: str | None = None
    reference: str | None = None
    published: Mapping[tuple[str, str, str], str] | None = None
    checks: Mapping[tuple[str, str, str], str] | None = None


@dataclass(frozen=True)
class Style:
    """How a cell is written."""

    bold: Callable[[str], str]
    dagger: str
    double: str
    plain: Callable[[str], str]


def results_folder(folder: Path) -> Path:
    """Make the folder that tables go to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--results {folder}: cannot be made ({error.strerror}); name another folder") from None
    return folder


def p_value(p: float) -> str:
    """A p-value in a cell: never 0, which no test can give."""
    return "<0.001" if p < 0.0005 else f"{p:.3f}"


MARKDOWN = Style(lambda text: f"**{text}**", "†", "‡", lambda text: text.replace("|", "\\|").replace("<", "&lt;"))
_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {character: f"\\{character}" for character in "&%$#_{}"}
LATEX = Style(
    lambda text: f"\\textbf{{{text}}}",
    r"$^\dagger$",
    r"$^\ddagger$",
    lambda text: "".join(_LATEX.get(character, character) for character in text),
)
HTML = Style(lambda text: f"<strong>{text}</strong>", "†", "‡", escape)


def layout(
    found: "pandas.DataFrame", compared: "pandas.DataFrame", shown: Shown, convention: str, style: Style
) -> "pandas.DataFrame":
    """A frame of strings: a row a method and data set, best in bold, daggers for significance.

    :param found: of :func:`eval.results.means`; ``compared``: of :func:`eval.results.comparisons`.
    """
    import pandas

    found = found[found.convention == convention]
    above_first = better(compared, "first stage", shown.first) if shown.first else set()
    above_reference = better(compared, "rerankers", shown.reference) if shown.reference else set()
    several = found.first_stage.nunique() > 1
    records = []
    for (dataset, stage), group in found.groupby(["dataset", "first_stage"], sort=False):
        best = {measure: rows["mean"].round(2).max() for measure, rows in group.groupby("measure")}
        for row, cells in group.groupby("row", sort=False):
            first = cells.iloc[0]
            record = {"Data": style.plain(first.dataset_title)}
            if several:
                record["First stage"] = style.plain(stage)
            record["Method"] = style.plain(first.title)
            means = cells.set_index("measure")["mean"]
            for measure in shown.measures:
                text = "–" if math.isnan(means[measure]) else f"{means[measure]:.2f}"  # no topic to average
                # One row is no contest.
                text = (
                    style.bold(text) if round(means[measure], 2) == best[measure] and len(group) > len(cells) else text
                )
                key = (dataset, stage, convention, measure, row)
                text += style.dagger if key in above_first else ""
                record[measure] = text + (style.double if key in above_reference else "")
            record["Topics"] = f"{first.topics:,}"
            for name, column in (("Published", shown.published), ("Check", shown.checks)):
                if column:
                    record[name] = style.plain(column.get((dataset, stage, row), ""))
            records.append(record)
    return pandas.DataFrame(records)


def markdown(frame: "pandas.DataFrame") -> str:
    """A frame of strings as a Markdown table, figures to the right."""
    names = list(frame.columns)
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" if n in WORDS else "---:" for n in names) + " |"]
    lines += ["| " + " | ".join(row) + " |" for row in frame.itertuples(index=False, name=None)]
    return "\n".join(lines) + "\n"


def latex(frame: "pandas.DataFrame", caption: str, label: str) -> str:
    """A frame of strings, already escaped, as a LaTeX table (package booktabs)."""
    columns = "".join("l" if name in WORDS else "r" for name in frame.columns)
    text = frame.to_latex(index=False, escape=False, column_format=columns, caption=caption, label=label)
    return str(text)


def caption_of(
    shown: Shown, convention: str, parameters: Mapping[str, object], topics: str, datasets: Collection[Dataset]
) -> str:
    """What a reader must know: what was measured, over which topics, what the marks mean."""
    kept = _left_out(datasets) if convention == "clean" else "all topics"
    marks = ["Best of each data set in bold"]
    if shown.first:
        marks.append("† better than the first stage")
    if shown.reference:
        marks.append(f"‡ better than {shown.reference}")
    said = ", ".join(f"{name} {value}" for name, value in parameters.items())
    tests = " (paired t-test and randomisation test, both p < 0.05 after Holm's correction)" if len(marks) > 1 else ""
    return f"Points; {convention} list: {kept}. {'; '.join(marks)}{tests}. {topics}. Parameters: {said}."


def _left_out(datasets: Collection[Dataset]) -> str:
    """The clean list's rule: judgements by answers are of candidates, others of any passage, as TREC averages."""
    rules = ["candidate"] if any(not one.qrels for one in datasets) else []
    rules += ["passage"] if any(one.qrels for one in datasets) else []
    said = " (of sets with judgements of their own: a relevant passage)" if len(rules) > 1 else ""
    return f"topics without a relevant {rules[0]}{said} left out"


def topics_of(found: "pandas.DataFrame") -> str:
    """How many topics of how many data sets a frame of :func:`eval.results.means` is about, without their mean."""
    counts = found[found.dataset != MEAN].drop_duplicates("dataset")
    return f"{counts.topics.sum():,} topics in {len(counts)} data set{'s' if len(counts) != 1 else ''}"
