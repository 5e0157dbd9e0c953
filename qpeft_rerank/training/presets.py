"""Two ways to train, and the settings that the authors chose per dataset (method section 5).

``faithful`` is what the authors' scripts do: rate 3e-2 constant, no clipping, in-batch negatives
without a check, an optimizer step for every two pairs, 20 epochs. Nothing decays: they ask for 0.01, but 3e-4 of
a weight, a step, rounds away in their bfloat16. Three defects are mended in both, as they decide nothing that the
paper claims: what learns is kept in float32 (D9; decay would act there), scored tokens are counted by label (D1),
and epochs are chosen by dev ranking in eval mode (D17, D21).
"""

from typing import Any

from qpeft_rerank.errors import InputError
from qpeft_rerank.training.sampler import Sampling

PRESETS = ("corrected", "faithful")
DATASETS = ("nq", "trivia", "webq", "squad")

# The cells that the authors' scripts mark as best.
_K = {"nq": 15, "webq": 20, "squad": 10, "trivia": 20}
_MARGIN_R = {"nq": 0.7, "webq": 0.0, "squad": 0.0, "trivia": 1.1}
_MARGIN_A = {"nq": 0.0, "webq": 0.9, "squad": 0.5, "trivia": 0.3}
_HEADS = 2

_RECIPES: dict[str, dict[str, Any]] = {
    "corrected": {},
    "faithful": {
        "lr": 3e-2,
        "warmup": 0.0,
        "decay": "constant",
        "weight_decay": 0.0,
        "clip": None,
        "epochs": 20,
        "patience": 6,
        "margin": 0.0,
        "sampling": Sampling(in_batch=True, filter_answers=False, pairs_per_step=2),
    },
}


def recipe_values(preset: str, adapter: str, dataset: str | None) -> dict[str, Any]:
    """The fields of :class:`~qpeft_rerank.training.recipe.Recipe` in which a preset differs from its defaults.

    Without a dataset the margin is 0.3 (corrected) or the code's default 0 (faithful).
    """
    if preset not in _RECIPES:
        raise InputError(f"--preset {preset}: give {' or '.join(PRESETS)}")
    values = dict(_RECIPES[preset])
    if dataset is not None:
        margins = _MARGIN_R if adapter == "qpeft-r" else _MARGIN_A if adapter == "qpeft-a" else {}
        values |= {"margin": margins[dataset]} if dataset in margins else {}
    return values


def adapter_options(adapter: str, dataset: str | None) -> dict[str, Any]:
    """The adapter's own options that the authors chose for a dataset: k for R, heads for A."""
    if dataset is not None and dataset not in DATASETS:
        raise InputError(f"--dataset {dataset}: give {', '.join(DATASETS)}, or leave it out")
    if adapter == "qpeft-r" and dataset is not None:
        return {"k": _K[dataset]}
    if adapter == "qpeft-a" and dataset is not None:
        return {"heads": _HEADS}
    return {}
