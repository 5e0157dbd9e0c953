"""How a method is trained: the settings of its condition and scale, as words for ``mine`` and ``train``."""

from collections.abc import Mapping
from typing import Any

from eval.conditions import Condition
from eval.design import RECIPE, Scale

# What `mine` keeps of a question unless told otherwise.
_NEGATIVES = 8
# Positives to keep where one is drawn at random.
_POSITIVES = 4
_DEFAULT = "pointwise+hinge"
# A setting says nothing under a loss that does not use it.
_LOSS_OF = {"margin": _DEFAULT, "temperature": "contrastive"}
_COMPARE = ("hinge", "pointwise+hinge", "contrastive")
_USES = {
    "margin": ("hinge", "pointwise+hinge"),
    "temperature": ("contrastive",),
    "negatives": _COMPARE,
    "in_batch": _COMPARE,
}


def recipe_of(condition: Condition, scale: Scale) -> dict[str, Any]:
    """The training's settings: varied, else the method's, else the scale's (under the preset ``faithful`` its
    epochs alone: they are its size).

    Where a table varies the margin or the temperature, the loss is one that uses it.
    """
    general = {} if condition.get("preset") == "faithful" else scale.recipe
    found = {name: condition.get(name, general.get(name)) for name in RECIPE}
    if scale.epochs and condition.get("epochs") is None:
        found["epochs"] = scale.epochs
    loss = _LOSS_OF.get(condition.setting or "")
    if loss and (found["loss"] or _DEFAULT) not in _USES[str(condition.setting)]:
        found["loss"] = loss
    # Under a loss that has none of it a setting would be refused.
    unused = [name for name, losses in _USES.items() if (found["loss"] or _DEFAULT) not in losses]
    return {name: value for name, value in found.items() if value is not None and name not in unused}


def train_words(recipe: Mapping[str, Any]) -> list[str]:
    """Flags of ``qpeft_rerank.train``; a flag that is on or off is written with or without ``no-``."""
    words = []
    for name, value in recipe.items():
        flag = name.replace("_", "-")
        if name == "positives":
            continue
        words += [f"--{flag}" if value else f"--no-{flag}"] if isinstance(value, bool) else [f"--{flag}", str(value)]
    return words


def mine_words(recipe: Mapping[str, Any]) -> list[str]:
    """Flags of ``qpeft_rerank.mine``, so that it keeps all that the training may draw."""
    negatives, positives = int(recipe.get("negatives", 0)), recipe.get("positives")
    if positives is None and recipe.get("any_positive"):
        positives = _POSITIVES
    words = ["--negatives", str(negatives)] if negatives > _NEGATIVES else []
    return words + (["--positives", str(positives)] if positives is not None and positives > 1 else [])


def sequences_of(recipe: Mapping[str, Any], queries: int, epochs: int) -> int:
    """Passages read in training, forwards and backwards, which costs twice the reading."""
    negatives = int(recipe.get("negatives", 1))
    if recipe.get("in_batch"):
        size = int(recipe.get("queries_per_step", 4))
        negatives = size * negatives + size - 1
    return 2 * queries * (1 + negatives) * epochs
