"""Checkpoints: everything that a training needs to go on, whole or not at all.

A checkpoint is a folder ``step-00000120`` with ``state.json`` (numbers), ``weights.safetensors`` (what
learns) and ``optimizer.safetensors`` (AdamW's moments). It is written under another name and renamed,
so a folder with that name is complete. The random draws of data and dropout follow from seed and step,
so no generator's state is kept.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.files import write_whole

FORMAT = 1


@dataclass(slots=True)
class State:
    """Where a training stands.

    :param settings: digest of what decides the weights; another training's state is refused.
    :param step: optimizer steps done; ``epoch`` and ``done`` count them within the epoch at work.
    :param batch_tokens: the budget of a micro-batch, lower than asked for after running out of memory.
    :param asked_tokens: the budget that was asked for.
    :param dev: dev metric of each epoch, the first before any training; empty without a dev set.
    :param best: the epoch whose weights are kept, 0 while there is none.
    """

    settings: str
    step: int = 0
    epoch: int = 1
    done: int = 0
    batch_tokens: int = 0
    asked_tokens: int = 0
    dev: list[float] = field(default_factory=list)
    best: int = 0
    stopped: bool = False

    def waited(self) -> int:
        """Epochs since the best one."""
        return len(self.dev) - 1 - self.best


class Checkpoints:
    """The checkpoints of one training, in a folder; the newest two are kept.

    :param folder: made if absent.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def save(self, state: State, weights: Mapping[str, Tensor], optimizer: Mapping[str, Any]) -> Path:
        """Write a checkpoint.

        :param optimizer: :func:`pack_optimizer`'s result.
        :raises InputError: if the disk is full or cannot be written.
        """
        target = self.folder / f"step-{state.step:08d}"
        fresh = self.folder / f".{target.name}.tmp"
        with self._writing():
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir()
            _write_tensors(fresh / "weights.safetensors", weights)
            _write_tensors(fresh / "optimizer.safetensors", optimizer["tensors"])
            record = {"format": FORMAT, "state": asdict(state), "optimizer": optimizer["steps"]}
            write_whole(fresh / "state.json", json.dumps(record, indent=1).encode("ascii"), durable=True)
            # The same step may be saved again: at its interval, and then with the epoch's dev metric.
            old = self.folder / f".{target.name}.old"
            if target.exists():
                os.rename(target, old)
            os.rename(fresh, target)
            shutil.rmtree(old, ignore_errors=True)
        for older in self._complete()[:-2]:
            shutil.rmtree(older, ignore_errors=True)
        return target

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """The folder is there within the block, and what the disk refuses is told in one line."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield
        except OSError as error:
            raise InputError(
                f"{self.folder}: a checkpoint cannot be written ({error.strerror or error}); free some space and "
                "give the same command again"
            ) from None

    def _complete(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("step-*") if (path / "state.json").is_file())

    def newest(self) -> Path | None:
        """The folder of the newest checkpoint after a step; None if there is none."""
        learnt = [folder for folder in self._complete() if int(folder.name.partition("-")[2])]
        return learnt[-1] if learnt else None

    def mend(self) -> None:
        """Put right what a process killed between two renames left; for the main process."""
        for aside in self.folder.glob(".step-*.old"):
            target = self.folder / aside.name[1:].removesuffix(".old")
            if target.exists():
                shutil.rmtree(aside, ignore_errors=True)
            else:
                aside.rename(target)

    def forget_others(self, settings: str) -> None:
        """Remove everything unless the newest checkpoint and the best weights are whole and of this training."""
        try:
            newest = self.latest(settings)
            if newest is not None and newest[0].best:
                self.load_best(newest[0].best)
        except InputError:
            shutil.rmtree(self.folder, ignore_errors=True)

    def latest(self, settings: str) -> tuple[State, dict[str, Tensor], dict[str, Any]] | None:
        """The newest checkpoint: state, weights, packed optimizer; None if there is none.

        :raises InputError: if it belongs to another training, or is damaged or of a newer format.
        """
        from safetensors.torch import load_file

        complete = self._complete()
        if not complete:
            return None
        folder = complete[-1]
        try:
            record = json.loads((folder / "state.json").read_text("ascii"))
            if record["format"] != FORMAT:
                raise InputError(f"{folder}: written by another version; use --overwrite to start afresh")
            state = State(**record["state"])
            if state.step and not record["optimizer"]:
                raise ValueError("without the optimizer's steps")
            weights = load_file(folder / "weights.safetensors")
            moments = load_file(folder / "optimizer.safetensors")
        except InputError:
            raise
        except Exception as error:
            raise InputError(f"{folder}: damaged ({error}); remove it to go on from an earlier one") from None
        if state.settings != settings:
            raise InputError(
                f"{self.folder.parent}: an unfinished training with other settings; give its command again to "
                "finish it, --overwrite to forget it, or another --output"
            )
        return state, weights, {"tensors": moments, "steps": record["optimizer"]}

    def save_best(self, weights: Mapping[str, Tensor], epoch: int) -> None:
        """Keep the weights of an epoch. They count as the best once a state says so.

        :raises InputError: if the disk is full or cannot be written.
        """
        with self._writing():
            _write_tensors(self.folder / f"best-{epoch:04d}.safetensors", weights)

    def load_best(self, epoch: int) -> dict[str, Tensor]:
        """The weights that :meth:`save_best` kept for an epoch."""
        from safetensors.torch import load_file

        path = self.folder / f"best-{epoch:04d}.safetensors"
        try:
            return load_file(path)
        except Exception as error:  # damaged in whatever way, or gone
            raise InputError(f"{path}: cannot be read ({first_line(error)}); train again with --overwrite") from None

    def forget_but(self, epoch: int) -> None:
        """Remove the kept weights of other epochs."""
        for path in self.folder.glob("best-*.safetensors"):
            if path.name != f"best-{epoch:04d}.safetensors":
                path.unlink(missing_ok=True)


def pack_optimizer(optimizer: torch.optim.Optimizer, named: Mapping[str, torch.nn.Parameter]) -> dict[str, Any]:
    """AdamW's moments as named tensors, and its step counts as numbers."""
    tensors, steps = {}, {}
    for name, parameter in named.items():
        kept = optimizer.state.get(parameter, {})
        for key, value in kept.items():
            if key == "step":
                steps[name] = float(value)
            else:
                tensors[f"{key}/{name}"] = value.detach().cpu().contiguous()
    return {"tensors": tensors, "steps": steps}


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, named: Mapping[str, torch.nn.Parameter], packed: Mapping[str, Any]
) -> None:
    """Give an optimizer the state that :func:`pack_optimizer` took."""
    for name, parameter in named.items():
        if name not in packed["steps"]:
            continue
        state: dict[str, Any] = {"step": torch.tensor(packed["steps"][name], dtype=torch.float32)}
        for key, tensor in packed["tensors"].items():
            moment, _, owner = key.partition("/")
            if owner == name:
                state[moment] = tensor.to(parameter.device)
        optimizer.state[parameter] = state


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    from safetensors.torch import save

    write_whole(
        path, save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}), durable=True
    )
