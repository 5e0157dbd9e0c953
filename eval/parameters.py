"""What decides a condition's figures, for captions and stored expectations: the scale's values, or the condition's own."""

from collections.abc import Iterable

from eval.chain import Chain
from eval.conditions import Condition
from eval.design import RECIPE, Scale
from eval.recipe import recipe_of
from eval.steps import Source, adapter_prompt, adapter_source

# What every figure depends on; rerankers on what they read with as well, and those that learn on all else.
_ASKED = ("depth", "topics", "pick", "seed")


def parameters_of(condition: Condition, chain: Chain) -> dict[str, object]:
    """All of them, the questions and an adapter made before included."""
    described = _own(condition, chain.scale)
    if condition.method.kind != "trained":
        read = () if condition.method.kind == "first-stage" else ("model", "prompt", "dtype", "max_passage_tokens")
        described = {name: described[name] for name in (*_ASKED, *read) if name in described}
    if condition.method.kind == "ready":
        described["adapter"] = adapter_source(condition.method.adapter).short
    source = next(word for word in chain.topics(condition).words if isinstance(word, Source))
    return described | {"questions": source.short}


def said(conditions: Iterable[Condition], scale: Scale) -> dict[str, str]:
    """The scale's values, each with the rows that have another; what a table varies is in its rows' titles."""
    listed = {condition.row: (condition, _own(condition, scale)) for condition in conditions}
    found = {}
    for name, value in scale.described().items():
        others: dict[str, list[str]] = {}
        for row, (condition, own) in listed.items():
            if condition.setting != name and own.get(name) != value:
                others.setdefault(str(own.get(name, "as its preset")), []).append(row)
        but = "; ".join(f"{', '.join(rows)}: {other}" for other, rows in others.items())
        found[name] = f"{value} ({but})" if but else str(value)
    return found


def _own(condition: Condition, scale: Scale) -> dict[str, object]:
    """Those of the scale's values that a condition takes, or its own instead."""
    recipe = recipe_of(condition, scale)
    own = {
        name: recipe[name] if name in recipe else condition.get(name, value)
        for name, value in scale.described().items()
        if name in recipe or name not in RECIPE
    }
    own["prompt"] = condition.prompt(scale)
    if condition.method.kind == "ready":
        own["prompt"] = adapter_prompt(condition.method.adapter) or "its adapter's"
    return own
