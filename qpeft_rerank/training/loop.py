"""The training loop: steps, epochs, the dev metric, checkpoints."""

import contextlib
import hashlib
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.float32 import whole_products
from qpeft_rerank.likelihood.out_of_memory import fitting
from qpeft_rerank.likelihood.scorer import NotFiniteError
from qpeft_rerank.prompt.segments import Sequence
from qpeft_rerank.training import prefix
from qpeft_rerank.training.checkpoints import Checkpoints, State, pack_optimizer, unpack_optimizer
from qpeft_rerank.training.determinism import deterministic
from qpeft_rerank.training.dev import DevSet, judge
from qpeft_rerank.training.draws import step_seed
from qpeft_rerank.training.gradients import GradientAccumulator, loss_scale
from qpeft_rerank.training.logbook import Logbook
from qpeft_rerank.training.outcome import Diverged, Outcome
from qpeft_rerank.training.prefix_store import PrefixStore
from qpeft_rerank.training.progress import Progress
from qpeft_rerank.training.recipe import Recipe
from qpeft_rerank.training.sampler import EpochSampler, Group
from qpeft_rerank.training.schedule import Schedule, learning_rates
from qpeft_rerank.training.student import Student, gradient_checkpointing
from qpeft_rerank.training.workers import Workers
from qpeft_rerank.training.workfolder import Kept

_NO_ROOM = (
    "out of memory for {} the memory of what learns; give the same command again with a smaller --batch-tokens, or "
    "train less (--option embeddings=frozen)"
)
# At the first step AdamW takes its memory.
_NO_OPTIMIZER = _NO_ROOM.format("the optimizer, which takes twice")
_NO_SUM = _NO_ROOM.format("the sum of all processes' gradients, which takes")
_NO_SAMPLE = "out of memory on a few sequences; set --max-passage-tokens, or take a smaller --dtype"


@dataclass(frozen=True, slots=True)
class Running:
    """How a training runs; none of it decides the weights, up to rounding.

    :param batch_tokens: rows times longest row of one micro-batch.
    :param checkpoint_steps: optimizer steps between checkpoints (there is one after each epoch, too).
    :param overwrite: forget another training's unfinished state in ``folder``.
    :param prefixes: a folder for the states of passages, or None to compute them each time; the last bits differ.
    """

    folder: Path
    batch_tokens: int = 4096
    checkpoint_steps: int = 50
    gradient_checkpointing: bool = False
    tensorboard: bool = False
    overwrite: bool = False
    prefixes: Path | None = None


@dataclass(slots=True)
class Trainer:
    """Trains a student's parameters.

    Killed and made again with the same arguments, :meth:`train` goes on from the last checkpoint; on one
    process the final weights are, bit for bit, those of a training that was never killed.

    :param settings: digest of data, model and adapter, to tell this training's checkpoints.
    :param dev: judges the epochs; without it, the last one is kept.
    :ivar store: keeps the states of passages, where that is wanted and works.
    """

    student: Student
    sampler: EpochSampler
    recipe: Recipe
    running: Running
    settings: str
    dev: DevSet | None = None
    workers: Workers = field(default_factory=Workers)
    store: PrefixStore | None = field(init=False, default=None)
    _state: State = field(init=False)
    _log: Logbook | None = field(init=False, default=None)
    _sharing: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        # Asked before anything is learnt or resumed, so that the answer is the same each time.
        model, hinter, folder = self.student.model, self.student.hinter, self.running.prefixes
        sample = self._sample()
        with fitting(_NO_SAMPLE):
            self._sharing = bool(sample) and prefix.prefix_works(model, sample, hinter)
            if self._sharing and hinter and folder:
                self.store = prefix.open_store(folder, model, sample, hinter, self.workers.main)

    def train(self) -> Outcome:
        """Train to the end, or until the dev metric stops rising; the main process's student then has the best weights.

        :raises InputError: if the loss is no number, or memory or disk do not suffice.
        """
        recipe, running = self.recipe, self.running
        named = {name: part.parameter for name, part in self.student.parts.items()}
        self.workers.agree(named.values())
        optimizer, rates = self._optimizer()
        checkpoints = Checkpoints(running.folder / Kept.CHECKPOINTS)
        self._resume(checkpoints, optimizer, named)
        state = self._state
        plan = self.sampler.epoch(state.epoch)
        # An epoch has the same number of steps as any other, up to negatives that were filtered out.
        schedule = Schedule(len(self.sampler.epoch(1)) * recipe.epochs, recipe.warmup, recipe.decay)
        accumulator = GradientAccumulator(
            self._mean_log_probs,
            recipe.group_loss(),
            list(named.values()),
            state.batch_tokens,
            prefix.size_after_prefix if self._sharing else len,
            cut=not self._sharing,
            advise=not (running.gradient_checkpointing or self.student.no_checkpointing),
            scale=loss_scale(self.student.model.dtype),
        )
        bar = Progress(schedule.steps, state.step, self.workers.main)
        # Gradients' products, too, which nothing else looks after.
        with bar as progress, deterministic(), whole_products(), contextlib.ExitStack() as at_the_end:
            if self.workers.main:
                self._log = Logbook(running.folder / Kept.LOG, state.step, len(state.dev), running.tensorboard)
                # However it ends: TensorBoard writes what it was given every two minutes, and then.
                at_the_end.callback(self._log.close)
            if self.dev is not None and not state.dev:
                self._judge(progress)
                self._save(checkpoints, optimizer, named)
            while not state.stopped and state.epoch <= recipe.epochs:
                for groups in plan[state.done :]:
                    try:
                        self._step(groups, accumulator, optimizer, rates, schedule, progress)
                    except Diverged as error:
                        if error.whole and state.step:
                            self._save(checkpoints, optimizer, named)
                        raise
                    if state.step % running.checkpoint_steps == 0:
                        self._save(checkpoints, optimizer, named)
                state.epoch, state.done = state.epoch + 1, 0
                self._end_epoch(checkpoints, progress)
                self._save(checkpoints, optimizer, named)
                plan = self.sampler.epoch(state.epoch)
        self.workers.wait()
        if self.workers.main:
            # It alone saves them, and other machines' disks may not have them.
            self.load_epoch(state.best)
        return self.outcome(state.best)

    def outcome(self, epoch: int) -> Outcome:
        """What the training came to so far, if ``epoch`` is kept."""
        state = self._state
        return Outcome(epoch, tuple(state.dev), state.step, state.epoch <= self.recipe.epochs)

    def load_epoch(self, epoch: int) -> None:
        """Give the student the weights kept for an epoch."""
        kept = Checkpoints(self.running.folder / Kept.CHECKPOINTS).load_best(epoch)
        self.student.load_weights(kept)

    def _optimizer(self) -> tuple[torch.optim.Optimizer, list[float]]:
        recipe = self.recipe
        rates = learning_rates(self.student.model.embedding, recipe.lr)
        grouped: dict[tuple[float, float], list[torch.nn.Parameter]] = {}
        for part in self.student.parts.values():
            key = (rates[part.role], recipe.weight_decay if part.decay else 0.0)
            grouped.setdefault(key, []).append(part.parameter)
        groups = [{"params": held, "lr": lr, "weight_decay": decay} for (lr, decay), held in grouped.items()]
        return torch.optim.AdamW(groups), [lr for lr, _ in grouped]

    def _resume(
        self, checkpoints: Checkpoints, optimizer: torch.optim.Optimizer, named: dict[str, torch.nn.Parameter]
    ) -> None:
        described = {"data": self.settings, "recipe": self.recipe.to_dict()}
        digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:32]
        if self.workers.main:
            checkpoints.mend()
            if self.running.overwrite:
                checkpoints.forget_others(digest)
        self.workers.wait()
        found = checkpoints.latest(digest)
        if len(set(self.workers.all_of(found[0].step if found else None))) > 1:
            raise InputError(
                f"{self.running.folder}: some processes see its checkpoints and others do not; name an --output on a "
                "file system that all machines share"
            )
        asked = self.running.batch_tokens
        if found is None:
            self._state = State(digest, batch_tokens=asked, asked_tokens=asked)
            return
        self._state, weights, packed = found
        self.student.load_weights(weights)
        unpack_optimizer(optimizer, named, packed)
        if self._state.asked_tokens != asked:
            self._state.batch_tokens = self._state.asked_tokens = asked
        if self.workers.main:
            say(f"going on after step {self._state.step:,}")

    def _step(
        self,
        groups: list[Group],
        accumulator: GradientAccumulator,
        optimizer: torch.optim.Optimizer,
        rates: list[float],
        schedule: Schedule,
        progress: Progress,
    ) -> None:
        state, workers = self._state, self.workers
        begun = time.perf_counter()
        mine = self.student.encode(groups[workers.rank :: workers.count])
        seed = step_seed(self.recipe.seed, state.step, workers.rank)
        with (
            self.student.training(),
            gradient_checkpointing(self.student.model, self.running.gradient_checkpointing),
        ):
            added = accumulator.add(mine, len(groups), seed)
        with fitting(_NO_SUM):
            loss, tokens = workers.add_up(accumulator.parameters, added)
        limit = self.recipe.clip if self.recipe.clip is not None else float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(accumulator.parameters, limit))
        if not (abs(loss) < float("inf") and norm < float("inf")):
            what = f"loss is {loss}" if not abs(loss) < float("inf") else f"gradient's norm is {norm}"
            raise Diverged(self._not_a_number(f"the {what}"), state.best, whole=True)
        factor = schedule.factor(state.step)
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * factor
        with fitting(_NO_OPTIMIZER):
            optimizer.step()
        # Asked once: each answer is waited for on a GPU.
        if not bool(torch.stack([torch.isfinite(parameter).all() for parameter in accumulator.parameters]).all()):
            raise Diverged(self._not_a_number("a weight is no number any more"), state.best)
        state.step, state.done = state.step + 1, state.done + 1
        state.batch_tokens = accumulator.batch_tokens
        seconds = time.perf_counter() - begun
        values: dict[str, Any] = {"step": state.step, "epoch": state.epoch, "loss": loss, "lr": rates[0] * factor}
        self._write(values | {"grad_norm": norm, "tokens": tokens, "seconds": seconds})
        progress.step(loss, tokens, seconds)

    def _not_a_number(self, what: str) -> str:
        if not self._state.step:
            return f"step 1: {what} before anything was learnt; try --dtype float32, or other values of --option"
        return f"step {self._state.step + 1}: {what}; train again with --overwrite and a lower --lr, or --dtype float32"

    def _end_epoch(self, checkpoints: Checkpoints, progress: Progress) -> None:
        state = self._state
        ended = state.epoch - 1
        if self.dev is not None:
            self._judge(progress)
            # The untrained adapter, dev[0], is no candidate: it has learnt nothing.
            better = state.best == 0 or state.dev[ended] > state.dev[state.best]
        else:
            better = True
        if better:
            state.best = ended
            if self.workers.main:
                checkpoints.save_best(self.student.weights(), ended)
        elif state.waited() >= self.recipe.patience:
            state.stopped = True

    def _judge(self, progress: Progress) -> None:
        """Add the dev metric of the weights as they are."""
        assert self.dev is not None
        state = self._state
        try:
            value = judge(self.dev, self.student.scorer(self.store), self.running.batch_tokens, self.workers)
        except NotFiniteError:
            if not state.dev:  # the adapter has not learnt anything yet
                raise
            raise Diverged(self._not_a_number("a dev score is no number"), state.best) from None
        epoch = len(state.dev)
        state.dev.append(value)
        self._write({"step": state.step, "epoch": epoch, "dev": value})
        progress.judged(epoch, value)

    def _save(
        self, checkpoints: Checkpoints, optimizer: torch.optim.Optimizer, named: dict[str, torch.nn.Parameter]
    ) -> None:
        if self.workers.main:
            checkpoints.save(self._state, self.student.weights(), pack_optimizer(optimizer, named))
            checkpoints.forget_but(self._state.best)
        self.workers.wait()

    def _write(self, values: dict[str, Any]) -> None:
        if self._log is not None:
            self._log.write(values)

    def _mean_log_probs(self, sequences: list[Sequence]) -> Tensor:
        if self._sharing:
            return prefix.means_after_prefix(self.student.model, sequences, self.student.hinter, self.store)
        return prefix.means(self.student.model, sequences, self.student.hinter)

    def _sample(self) -> list[Sequence]:
        """A few sequences to try passages' states on; none where they are of no use."""
        plan = [] if self.running.gradient_checkpointing else self.sampler.epoch(1)
        return [sequence for group in self.student.encode(plan[0][:2]) for sequence in group[:2]] if plan else []
