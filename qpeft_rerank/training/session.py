"""One training from checked inputs to the adapter's folder."""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qpeft_rerank import exactness
from qpeft_rerank.adapters.card import Card
from qpeft_rerank.adapters.store import save_adapter
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import as_text, write_whole
from qpeft_rerank.launched import started
from qpeft_rerank.likelihood.device_faults import faults_told
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.prompt.templates import Template
from qpeft_rerank.training.checkpoints import Checkpoints
from qpeft_rerank.training.data import TrainingFile
from qpeft_rerank.training.dev import MEASURE, DevSet, judge
from qpeft_rerank.training.logbook import can_draw, draw
from qpeft_rerank.training.loop import Running, Trainer
from qpeft_rerank.training.outcome import Diverged, Outcome
from qpeft_rerank.training.prefix_scorer import scorer_after_prefix
from qpeft_rerank.training.recipe import Recipe
from qpeft_rerank.training.sampler import EpochSampler
from qpeft_rerank.training.student import Student
from qpeft_rerank.training.students import make_student
from qpeft_rerank.training.workers import Workers
from qpeft_rerank.training.workfolder import Kept, WorkFolder

# Tokens in one micro-batch. Activations are kept for the backward pass, so less than for scoring.
BATCH_TOKENS = {"cpu": 2048, "cuda": 16384, "mps": 4096}


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A training's inputs.

    :param adapter: its name; ``options`` and ``preset`` make its configuration.
    :param dev: makes the dev set, or None for a training without one.
    :param device: this process's own, where several train together.
    :param prefix_cache: a folder for the states of passages, ``off``, or ``auto``: in the work folder if on a CPU.
    :param bare: questions without a negative, to be told (:func:`check_files`).
    :param half: save the adapter's numbers in float16.
    :param command: how it was started, for the model card.
    """

    adapter: str
    options: dict[str, Any]
    preset: str
    files: tuple[TrainingFile, ...]
    dev: Callable[[], DevSet] | None
    model: str
    template: Template
    recipe: Recipe
    output: Path
    dtype: str
    device: str
    batch_tokens: int | None
    max_passage_tokens: int | None
    checkpoint_steps: int
    gradient_checkpointing: bool
    tensorboard: bool
    overwrite: bool
    prefix_cache: str
    half: bool
    bare: int
    command: str
    _notes: dict[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Train, and leave the adapter in ``output``.

        :raises InputError: with one line saying what is wrong.
        """
        accelerator = None
        if started() > 1:
            from accelerate import Accelerator

            # What its users set for mixed precision is for models that it prepares, and may not suit this device.
            accelerator = Accelerator(cpu=self.device == "cpu", mixed_precision="no")
        workers = Workers(accelerator)
        goes_on = "the same command goes on from the last checkpoint"
        with WorkFolder(self.output, self.overwrite, workers.main) as work, faults_told(goes_on):
            # Data first: it is read in seconds, a model may take minutes.
            dev = self.dev() if self.dev else None
            model = LanguageModel.load(self.model, self.dtype, self.device)
            examples = [example for file in self.files for example in file.examples]
            student = make_student(
                self.adapter,
                model,
                self.template,
                self.preset,
                self.options,
                examples,
                self.recipe.seed,
                self.max_passage_tokens,
                self.recipe.sampling,
                quiet=not workers.main,
            )
            if self.gradient_checkpointing and student.no_checkpointing:
                raise InputError(f"--gradient-checkpointing: {student.no_checkpointing}; leave it out")
            trainer = Trainer(
                student,
                EpochSampler(examples, self.recipe.sampling, self.recipe.seed, self.recipe.compares),
                self.recipe,
                self._running(work.path, model),
                self._settings(model, student, dev),
                dev,
                workers,
            )
            if workers.main:
                self._announce(trainer)
            if dev:
                zero_shot = self._notes["zero-shot"] = self._zero_shot(trainer, dev, work)
                if workers.main:
                    first = f"first stage {dev.first_stage:.4f}, " if dev.first_stage is not None else ""
                    say(f"dev {MEASURE} of {dev.topics} questions: {first}zero-shot {zero_shot:.4f}")
            try:
                outcome = trainer.train()
            except Diverged as error:
                left = self._left(error, trainer, work)
                # Where one ends with a fault, a launcher stops the others.
                workers.wait()
                raise InputError(f"{error}{left}") from None
            if workers.main:
                self._save(trainer, work, outcome)
            workers.wait()

    def _left(self, error: Diverged, trainer: Trainer, work: WorkFolder) -> str:
        """Save what a training that diverged has of an adapter; return what to say of that, or of its checkpoint."""
        if error.best:
            if trainer.workers.main:
                trainer.load_epoch(error.best)
                self._save(trainer, work, trainer.outcome(error.best))
            return f"; {self.output} holds the adapter of epoch {error.best}"
        kept = Checkpoints(work.path / Kept.CHECKPOINTS).newest()
        return f"; the last good checkpoint is {kept}" if kept else ""

    def _running(self, folder: Path, model: LanguageModel) -> Running:
        return Running(
            folder,
            self.batch_tokens or BATCH_TOKENS.get(model.device.type, BATCH_TOKENS["cpu"]),
            self.checkpoint_steps,
            self.gradient_checkpointing,
            self.tensorboard,
            self.overwrite,
            self._prefixes(folder, model.device.type),
        )

    def _prefixes(self, folder: Path, device: str) -> Path | None:
        """The folder for passages' states. On a GPU they are computed sooner than read."""
        if self.prefix_cache == "auto":
            return folder / Kept.PREFIXES if device == "cpu" else None
        return None if self.prefix_cache == "off" else Path(self.prefix_cache)

    def _settings(self, model: LanguageModel, student: Student, dev: DevSet | None) -> str:
        """Digest of all that decides the weights, but for the recipe."""
        described: dict[str, Any] = {
            "adapter": [self.adapter, self.preset, self.options, getattr(student.hinter, "identity", "")],
            "model": [model.source.identity, model.source.tokenizer_identity, model.precision],
            "prompt": self.template.content,
            "data": [[file.digest, len(file.examples)] for file in self.files],
            "passage": self.max_passage_tokens,
            "dev": dev.digest if dev else None,
        }
        return hashlib.sha256(json.dumps(described, sort_keys=True, default=str).encode("utf-8")).hexdigest()

    def _announce(self, trainer: Trainer) -> None:
        student, count = trainer.student, trainer.workers.count
        for file in self.files:
            say(file.summary)
        if self.bare:
            say(
                f"{self.bare:,} questions have no negative without an answer, and teach their positives' likelihood alone"
            )
        team = f", in {count} processes" if count > 1 else ""
        say(f"{self.adapter} on {student.model.source.name}: {student.trained:,} parameters learn{team}")
        if trainer.store is None and self.prefix_cache not in ("auto", "off"):
            say("--prefix-cache: not used, for the adapter, the model or gradient checkpointing does not allow it")
        if told := exactness.notice(student.model.precision, student.model.device):
            say(told)
        if trainer.dev is None:
            say("no dev set: the last epoch is kept")
        if not can_draw():
            say("no training.png will be drawn: matplotlib is not installed (pip install matplotlib)")

    def _zero_shot(self, trainer: Trainer, dev: DevSet, work: WorkFolder) -> float:
        """The dev metric without the adapter; kept, as a resumed training need not compute it again."""
        model, workers = trainer.student.model, trainer.workers
        plain = scorer_after_prefix(model, self.template, None, self.max_passage_tokens, trainer.store)
        path, key, kept = work.path / Kept.ZERO_SHOT, f"{plain.fingerprint} {dev.digest}", None
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # none, or damaged: computed again
            found = json.loads(path.read_text("ascii"))
            kept = float(found["value"]) if found["of"] == key else None
        # All compute it, or none does.
        kept = workers.from_main(kept)
        if kept is not None:
            return kept
        value = judge(dev, plain, trainer.running.batch_tokens, workers)
        if workers.main:
            write_whole(path, json.dumps({"of": key, "value": value}).encode("ascii"))
        return value

    def _save(self, trainer: Trainer, work: WorkFolder, outcome: Outcome) -> None:
        student, dev = trainer.student, trainer.dev
        made = work.made
        shutil.rmtree(made, ignore_errors=True)
        made.parent.mkdir(exist_ok=True)
        metrics = self._metrics(dev, outcome)
        data = "; ".join(
            f"{as_text(Path(file.path).name)}: {len(file.examples)} questions (sha256 {file.digest})"
            for file in self.files
        )
        adapter: Any = student.hinter
        command = as_text(self.command)
        save_adapter(adapter, student.model, self.template, made, Card(data, command, metrics), self.half)
        record = {
            "command": command,
            "adapter": self.adapter,
            "preset": self.preset,
            "options": self.options,
            "recipe": self.recipe.to_dict(),
            "data": [
                {"file": as_text(Path(file.path).name), "sha256": file.digest, "questions": len(file.examples)}
                for file in self.files
            ],
            "dev": metrics,
            "dev_by_epoch": outcome.dev,
            "epoch": outcome.epoch,
            "steps": outcome.steps,
            "parameters": student.trained,
        }
        (made / "training.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", "utf-8")
        if not draw(work.path / Kept.LOG, work.path / Kept.PICTURE, dev.first_stage if dev else None) and can_draw():
            say("no training.png: matplotlib cannot be imported")
        work.finish()
        self._report(outcome)

    def _metrics(self, dev: DevSet | None, outcome: Outcome) -> dict[str, float]:
        if dev is None:
            return {}
        metrics = {f"dev {MEASURE}": outcome.dev[outcome.epoch], f"dev {MEASURE}, untrained": outcome.dev[0]}
        metrics |= {f"dev {MEASURE}, {name}": value for name, value in self._notes.items()}
        if dev.first_stage is not None:
            metrics[f"dev {MEASURE}, first stage"] = dev.first_stage
        return metrics

    def _report(self, outcome: Outcome) -> None:
        stopped = " (stopped early)" if outcome.early else ""
        if outcome.dev:
            value = outcome.dev[outcome.epoch]
            say(f"{outcome.steps:,} steps{stopped}; best epoch {outcome.epoch}: dev {MEASURE} {value:.4f}")
            if value <= self._notes.get("zero-shot", -1.0):
                say("warning: on dev the adapter does not beat the model without it")
            elif value < outcome.dev[0]:
                say(f"warning: on dev the adapter was better before it was trained ({outcome.dev[0]:.4f})")
        else:
            say(f"{outcome.steps:,} steps; kept the last epoch")
        say(f"wrote {self.output}")


def check_files(files: Sequence[TrainingFile], recipe: Recipe) -> int:
    """Refuse files without negatives where the loss compares with some; count the questions that have none."""
    examples = [example for file in files for example in file.examples]
    if not recipe.compares:
        return 0
    groups = [group for step in EpochSampler(examples, recipe.sampling, recipe.seed).epoch(1) for group in step]
    bare = sum(len(group.passages) == 1 for group in groups)
    if bare < len(groups):
        return bare
    listed = any(example.hard or example.plain for example in examples)
    which = "none without one of its answers" if listed else "no question has one"
    # One question has no others to take passages from.
    others = ", or add --in-batch" if len(examples) > 1 and not recipe.sampling.in_batch else ""
    raise InputError(
        f"{files[0].path}: no negative passages ({which}), which --loss {recipe.loss} compares with; mine some{others}"
    )
