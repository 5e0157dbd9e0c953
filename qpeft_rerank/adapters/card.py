"""The model card: a README.md that says what an adapter is and how it came about."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from qpeft_rerank.likelihood.sources import ModelSource


@dataclass(frozen=True, slots=True)
class Card:
    """What only the caller knows.

    :param data: the training data, in a sentence.
    :param command: the command that trained it.
    :param metrics: measured figures by name, such as ``R@10 (NQ test)``.
    """

    data: str = ""
    command: str = ""
    metrics: Mapping[str, float | str] = field(default_factory=dict)


def render(card: Card, title: str, kind: str, source: ModelSource, versions: Mapping[str, str]) -> str:
    """A model card in markdown, with the hub's metadata on top.

    :param source: the model; one that is not known to be on the hub is not named to it, where its name could be a
        stranger's.
    """
    base, gguf = source.full_name, source.gguf
    head = {
        **({"base_model": base} if source.hub else {}),
        "library_name": "qpeft_rerank",
        "pipeline_tag": "text-ranking",
        "tags": ["qpeft", "reranking", kind],
    }
    parts = [
        "---",
        *(f"{key}: {_yaml(value)}" for key, value in head.items()),
        "---",
        "",
        f"# {title}",
        "",
    ]
    weights = f" with the weights of `{gguf.name}` (others of that model are refused)" if gguf else ""
    parts += [f"A `{kind}` adapter for `{base}`{weights}: it reranks passages by the likelihood of the query."]
    if card.data:
        parts += ["", "## Training data", "", card.data]
    if card.metrics:
        parts += ["", "## Measured", "", "| measure | value |", "|---|---:|"]
        parts += [f"| {_cell(name)} | {_cell(value)} |" for name, value in card.metrics.items()]
    if card.command:
        parts += ["", "## Made by", "", "```", card.command.replace("```", "` ` `"), "```"]
    parts += [
        "",
        "Made with " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
        "",
    ]
    return "\n".join(parts)


def _yaml(value: object) -> str:
    """A value as YAML. JSON is YAML, but for escapes by halves of a surrogate pair and for controls left as they are."""
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)


def _cell(value: float | str) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
