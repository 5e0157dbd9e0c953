"""The gradient of one optimizer step, in as many micro-batches as memory asks for.

Groups are independent, so whole groups are packed under a budget of tokens and their losses add up. A
group that alone exceeds the budget is computed twice: once without gradients for its log-probabilities,
from which the loss's derivative by each follows, and again in parts for the gradients. On a CPU a micro-batch is
read in several passes of sequences of like length: less padding, and states that stay in the processor's caches (a
step of LoRA on 8 sequences of 120 to 220 tokens takes 0.75 of the time). Either way the result is that of one large
batch, up to rounding (and to the draws of dropout, where there is any).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.likelihood.batches import cut_batches, plan_batches
from qpeft_rerank.likelihood.out_of_memory import fitting, is_out_of_memory
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.training.determinism import has_no_way, strictly
from qpeft_rerank.training.draws import part_seed
from qpeft_rerank.training.losses import GroupLoss, pad_groups

MeanLogProbs = Callable[[list[Sequence]], Tensor]
Groups = list[list[Sequence]]

# Of a pass on a CPU: most of its tokens, and how many more could be read in the time that it costs besides.
_PASS_TOKENS, _PASS_COST = 512, 40
# Of a loss whose gradients pass through float16, which makes zero of what is below 6e-8, and infinity of what is above
# 65,504. In SmolLM2-135M, where they are 0.6 at the most, those of what learns are off by 2 % of their norm without it,
# and by 0.5 % with it, as with a quarter or 64 times as much.
_HALF_SCALE = 2.0**10
_NO_ROOM = (
    "out of memory for the gradients, which take the memory of what learns; train less (--option embeddings=frozen), "
    "or take a smaller --dtype"
)


def loss_scale(dtype: torch.dtype) -> float:
    """What a loss is multiplied by before its gradients pass through a model of this dtype."""
    return _HALF_SCALE if dtype == torch.float16 else 1.0


@dataclass(frozen=True, slots=True)
class Accumulated:
    """What one process added to a step.

    :param loss: its groups' share of the step's mean loss, in nats per token.
    :param tokens: tokens of its sequences, without padding.
    """

    loss: float
    tokens: int


class GradientAccumulator:
    """Adds the gradients of groups into the ``grad`` of the trainable parameters.

    :param mean_log_probs: sequences to ``[batch]``, with gradients.
    :param parameters: what learns, to clear when a step must be begun anew.
    :param batch_tokens: rows times largest row of one micro-batch; halved when memory runs out.
    :param size: tokens that a sequence's row takes, in memory for the gradient.
    :param cut: read a micro-batch in several passes where that is quicker; not where sequences share what is computed.
    :param advise: tell of gradient checkpointing where one sequence does not fit into memory.
    :param scale: a power of two by which gradients are larger on their way through the model; see :func:`loss_scale`.
    """

    def __init__(
        self,
        mean_log_probs: MeanLogProbs,
        loss: GroupLoss,
        parameters: list[torch.nn.Parameter],
        batch_tokens: int,
        size: Callable[[Sequence], int] = len,
        cut: bool = False,
        advise: bool = False,
        scale: float = 1.0,
    ) -> None:
        self.mean_log_probs = mean_log_probs
        self.loss = loss
        self.parameters = parameters
        self.batch_tokens = batch_tokens
        self.size = size
        self.advise = advise
        self.scale = scale
        self.cut = cut and parameters[0].device.type == "cpu"
        #: Whether equal steps must give equal bits; on a CPU they do.
        self.strict = parameters[0].device.type == "cuda"

    def add(self, groups: Groups, of: int, seed: int) -> Accumulated:
        """Add the gradient of ``sum(losses of groups) / of``.

        :param of: groups of the whole step, over all processes.
        :param seed: for dropout; the same call with the same seed draws the same.
        :raises InputError: if a single sequence, or the gradients themselves, do not fit into memory.
        """
        device = self.parameters[0].device
        while True:
            # Smaller micro-batches would not help here.
            with fitting(_NO_ROOM):
                for parameter in self.parameters:
                    parameter.grad = torch.zeros_like(parameter)
            try:
                with (
                    torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
                    strictly(self.strict),
                ):
                    total = sum(self._micro_batch(batch, of, seed + place) for place, batch in self._planned(groups))
                self._unscale()
                return Accumulated(float(total), sum(len(sequence) for group in groups for sequence in group))
            except (RuntimeError, MemoryError) as error:
                if self.strict and has_no_way(error):
                    self.strict = False
                    why = first_line(error).partition(",")[0]
                    say(
                        f"equal steps will not give equal bits here ({why}): a stopped training goes on almost as it would"
                    )
                    continue
                if not is_out_of_memory(error):
                    raise
            # Begun anew: a backward pass that broke off may have added half of its gradients.
            self._halve(groups)

    def _planned(self, groups: Groups) -> Iterator[tuple[int, Groups]]:
        """Number and groups of each micro-batch, groups of like size together."""
        order = sorted(range(len(groups)), key=lambda index: (-self._largest(groups[index]), index))
        batch: Groups = []
        number = rows = 0
        for index in order:
            group = groups[index]
            if batch and (rows + len(group)) * self._largest(batch[0]) > self.batch_tokens:
                yield number, batch
                number, batch, rows = number + 1, [], 0
            batch.append(group)
            rows += len(group)
        if batch:
            yield number, batch

    def _micro_batch(self, groups: Groups, of: int, seed: int) -> float:
        sequences = [sequence for group in groups for sequence in group]
        sizes = [len(group) for group in groups]
        if len(sequences) * self._largest(sequences) > self.batch_tokens and len(sequences) > 1:
            return self._in_parts(sequences, of, seed)
        torch.manual_seed(seed)
        loss = self.loss(*pad_groups(self._values(sequences), sizes)).sum() / of
        (loss * self.scale).backward()
        return loss.item()

    def _in_parts(self, sequences: list[Sequence], of: int, seed: int) -> float:
        """One group that exceeds the budget."""
        parts = plan_batches([self.size(sequence) for sequence in sequences], self.batch_tokens)
        values = torch.zeros(len(sequences), device=self.parameters[0].device)
        for number, part in enumerate(parts):
            torch.manual_seed(part_seed(seed, number))
            # Not under no_grad: a model may read sequences another way there, in rows of other shapes, whose dropout
            # would be another one.
            values[part] = self._values([sequences[index] for index in part]).detach()
        values.requires_grad_()
        loss = self.loss(*pad_groups(values, [len(sequences)])).sum() / of
        (slopes,) = torch.autograd.grad(loss, values)
        for number, part in enumerate(parts):
            # The same draws as before, so the slopes belong to these values.
            torch.manual_seed(part_seed(seed, number))
            (self._values([sequences[index] for index in part]) * slopes[part] * self.scale).sum().backward()
        return loss.item()

    def _unscale(self) -> None:
        """Divide what was added up. Nothing is rounded, and what is no finite number stays none."""
        if self.scale != 1.0:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad /= self.scale

    def _values(self, sequences: list[Sequence]) -> Tensor:
        """``[batch]``, with gradients."""
        if not self.cut:
            return self.mean_log_probs(sequences)
        passes = cut_batches([self.size(sequence) for sequence in sequences], _PASS_TOKENS, _PASS_COST)
        found = torch.cat([self.mean_log_probs([sequences[index] for index in one]) for one in passes])
        order = torch.tensor([index for one in passes for index in one], device=found.device)
        return found[order.argsort()]

    def _halve(self, groups: Groups) -> None:
        largest = max(map(self._largest, groups))
        used = max(sum(map(len, batch)) * self._largest(batch[0]) for _, batch in self._planned(groups))
        if min(used, self.batch_tokens) <= largest:
            longest = max(len(sequence) for group in groups for sequence in group)
            add = "add --gradient-checkpointing, " if self.advise else ""
            raise InputError(
                f"out of memory on one sequence of {longest} tokens; {add}set --max-passage-tokens, or take a smaller "
                "--dtype"
            )
        self.batch_tokens = max(largest, min(used, self.batch_tokens) // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        say(f"out of memory: micro-batches of {self.batch_tokens:,} tokens from here on (the result is the same)")

    def _largest(self, sequences: list[Sequence]) -> int:
        return max(map(self.size, sequences))
