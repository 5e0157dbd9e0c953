"""The processes that train together, through accelerate; one process is the ordinary case.

Each takes every n-th group of a step and adds its gradients; they are summed before the optimizer
steps, so every process makes the same step. The loss divides by the groups of the whole step, hence n
processes train as one does, up to the order of summation. The frozen model is whole on every process.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch

from qpeft_rerank.training.gradients import Accumulated

if TYPE_CHECKING:
    from accelerate import Accelerator

_Value = TypeVar("_Value")


class Workers:
    """This process among its fellows.

    :param accelerator: accelerate's view of them, or None for one process alone.
    """

    def __init__(self, accelerator: "Accelerator | None" = None) -> None:
        self._accelerator = accelerator
        self.count: int = accelerator.num_processes if accelerator else 1
        self.rank: int = accelerator.process_index if accelerator else 0

    @property
    def main(self) -> bool:
        """Whether this process writes files and messages."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.count > 1 and self._accelerator:
            self._accelerator.wait_for_everyone()

    def agree(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Give every process the main one's parameters."""
        if self.count > 1:
            from accelerate.utils import broadcast

            with torch.no_grad():
                for parameter in parameters:
                    parameter.copy_(broadcast(parameter.detach().clone()))

    def add_up(self, parameters: Sequence[torch.nn.Parameter], added: Accumulated) -> tuple[float, int]:
        """Sum gradients in place, and return loss and tokens of the whole step."""
        if self.count == 1 or self._accelerator is None:
            return added.loss, added.tokens
        counts = torch.tensor([added.loss, added.tokens], dtype=torch.float64, device=parameters[0].device)
        total = self._accelerator.reduce(counts, reduction="sum")
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        flat = self._accelerator.reduce(torch.cat([gradient.flatten() for gradient in gradients]), reduction="sum")
        for gradient, summed in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(summed.view_as(gradient))
        return float(total[0]), int(total[1])

    def from_main(self, value: _Value) -> _Value:
        """What the main process has, for all."""
        if self.count == 1:
            return value
        from accelerate.utils import broadcast_object_list

        given: list[_Value] = broadcast_object_list([value])
        return given[0]

    def all_of(self, value: _Value) -> list[_Value]:
        """What each process has, by rank."""
        if self.count == 1:
            return [value]
        from accelerate.utils import gather_object

        given: list[_Value] = gather_object([value])
        return given

    def interleave(self, mine: list[float], length: int) -> list[float]:
        """Put together what the processes computed for every n-th item, ``length`` in all."""
        if self.count == 1:
            return mine
        from accelerate.utils import gather_object

        # Gathered objects are strung together in the order of the processes.
        flat = iter(gather_object(mine))
        result = [0.0] * length
        for rank in range(self.count):
            for place in range(rank, length, self.count):
                result[place] = next(flat)
        return result
