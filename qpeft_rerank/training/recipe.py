"""What decides the weights of a training, apart from data, model and adapter."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from qpeft_rerank.errors import InputError
from qpeft_rerank.training.examples import MOST_KEPT
from qpeft_rerank.training.losses import GroupLoss, make_loss
from qpeft_rerank.training.sampler import Sampling
from qpeft_rerank.training.schedule import Decay


@dataclass(frozen=True, slots=True)
class Recipe:
    """Loss, sampling and optimisation. The defaults are the ``corrected`` preset.

    :param margin: of the hinge, in nats per token.
    :param temperature: of the contrastive loss, in nats per token.
    :param lr: one rate for all parameters, or None for :mod:`~qpeft_rerank.training.schedule`'s rule.
    :param warmup: share of the steps with a rising rate.
    :param weight_decay: AdamW's, for the parameters that the adapter lets decay.
    :param clip: greatest norm of the gradient, None for no limit.
    :param patience: epochs without a better dev metric after which training stops.
    :param seed: of sampling and dropout.
    """

    loss: str = "pointwise+hinge"
    margin: float = 0.3
    temperature: float = 0.1
    sampling: Sampling = field(default_factory=Sampling)
    epochs: int = 5
    lr: float | None = None
    warmup: float = 0.1
    decay: Decay = "linear"
    weight_decay: float = 0.01
    clip: float | None = 1.0
    patience: int = 3
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("margin", "temperature", "lr", "warmup", "weight_decay", "clip"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise InputError(f"--{name.replace('_', '-')} {value}: give a finite number")
        self.group_loss()
        for name, low in (("epochs", 1), ("patience", 1), ("warmup", 0), ("weight_decay", 0)):
            if getattr(self, name) < low:
                raise InputError(f"--{name.replace('_', '-')} {getattr(self, name)}: give {low} or more")
        if self.warmup > 1:
            raise InputError(f"--warmup {self.warmup}: give a share of the steps, 0 to 1")
        if self.lr is not None and not 0 < self.lr <= 1:
            raise InputError(f"--lr {self.lr}: give a number above 0, up to 1")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"--seed {self.seed}: give a whole number from 0 below 2^32")
        if self.clip is not None and self.clip <= 0:
            raise InputError(f"--clip {self.clip}: give a number above 0, or leave it out")
        sampling = self.sampling
        if sampling.queries_per_step < 1 or sampling.negatives < 0:
            raise InputError("--queries-per-step is at least 1 and --negatives at least 0")
        if sampling.negatives > MOST_KEPT:
            raise InputError(
                f"--negatives {sampling.negatives}: at most {MOST_KEPT} of a question are kept; give fewer"
            )
        alone = sampling.negatives == 0 and not (sampling.in_batch and sampling.queries_per_step > 1)
        if alone and self.compares:
            raise InputError(f"--loss {self.loss} compares with negatives; set --negatives 1 or --in-batch")

    @property
    def compares(self) -> bool:
        """Whether the loss looks at negatives."""
        return self.loss != "pointwise"

    def group_loss(self) -> GroupLoss:
        """The loss as a function of ``[groups, 1 + n]``."""
        return make_loss(self.loss, self.margin, self.temperature)

    def to_dict(self) -> dict[str, Any]:
        """The recipe as plain data."""
        return asdict(self)
