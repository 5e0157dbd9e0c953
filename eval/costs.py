"""What methods cost: parameters that learn, training time, seconds a question, memory; from the steps' own records."""

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from eval.chain import Chain
from eval.conditions import Condition
from eval.steps import Step
from eval.store import Store
from eval.values import Values

if TYPE_CHECKING:
    import pandas

#: What the columns are, for a caption.
CAPTION = (
    "Means over the data sets of which they are known, as the steps' commands took, loading included, on the machine that "
    "ran them, where each had its share of the processors if several ran at a time; – where nothing is trained, or where "
    "time and memory are known of no data set: a command was stopped and went on, several rerankers were scored "
    "together, trainings shared a --prefix-cache, or a first stage's run was made elsewhere. Memory is the greatest "
    "resident size of the command's process (without a GPU's own). Questions: those "
    "trained on. Learning: parameters that training changes."
)
COLUMNS = ("Method", "Questions", "Learning", "Training, s", "Training, GB", "Seconds a question", "Reranking, GB")


def costs(measured: Mapping[Condition, Values], chain: Chain, store: Store) -> "pandas.DataFrame":
    """A row a method: numbers, None where they are not known.

    ``questions`` (that were trained on, which may be fewer than asked for), ``parameters``, ``training_seconds``,
    ``training_bytes``, ``question_seconds`` (of a topic with all its candidates), ``reranking_bytes``.
    """
    import pandas

    rows: dict[str, list[dict[str, Any]]] = {}
    titles: dict[str, str] = {}
    for condition, values in measured.items():
        # Not by titles: two methods may have one, where the second was copied from the first.
        rows.setdefault(condition.row, []).append(_cost(condition, len(values.topics), chain, store))
        titles[condition.row] = condition.title
    records = []
    for row, found in rows.items():
        names = found[0]
        records.append({"method": titles[row]} | {name: _mean(one[name] for one in found) for name in names})
    return pandas.DataFrame(records)


def shown(frame: "pandas.DataFrame") -> "pandas.DataFrame":
    """The same as strings, columns as in :data:`COLUMNS`."""
    import pandas

    def said(value: float | None, form: str, unit: float = 1.0) -> str:
        return "–" if value is None or pandas.isna(value) else format(value / unit, form)

    records = [
        (
            row.method,
            said(row.questions, ",.0f"),
            said(row.parameters, ",.0f"),
            said(row.training_seconds, ",.0f"),
            said(row.training_bytes, ".2f", 1e9),
            said(row.question_seconds, ".3g"),
            said(row.reranking_bytes, ".2f", 1e9),
        )
        for row in frame.itertuples()
    ]
    return pandas.DataFrame(records, columns=list(COLUMNS))


def _cost(condition: Condition, topics: int, chain: Chain, store: Store) -> dict[str, float | None]:
    kind = condition.method.kind
    scoring = chain.candidates(condition) if kind == "first-stage" else chain.rerank(condition)
    training = chain.adapter(condition) if kind == "trained" else None
    record, trained = store.record(scoring), store.record(training) if training else {}
    if scoring.kind == "candidates":
        record = {}  # it cut a run that was made elsewhere: what searching took is not known
    seconds, told = record.get("seconds"), _told(training, store) if training else {}
    return {
        "questions": _questions(told),
        "parameters": _number(told.get("parameters")),
        "training_seconds": None if _shares_states(trained) else trained.get("seconds"),
        "training_bytes": trained.get("peak_bytes"),
        "question_seconds": seconds / topics if seconds and topics else None,
        "reranking_bytes": record.get("peak_bytes"),
    }


def _shares_states(trained: Mapping[str, Any]) -> bool:
    """Tell whether a training may have found states of passages that another one kept."""
    words = trained.get("command", [])
    return "--prefix-cache" in words[:-1] and words[words.index("--prefix-cache") + 1] != "off"


def _told(training: Step, store: Store) -> Mapping[str, Any]:
    """What a training said of itself; nothing if that cannot be read."""
    try:
        told = json.loads((training.place(store.work) / "training.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _questions(told: Mapping[str, Any]) -> float | None:
    files = told.get("data")
    counts = [file.get("questions") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return float(sum(counts)) if counts and all(isinstance(count, int) for count in counts) else None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int) else None


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
