"""Keys and values of the tokens that nothing trainable precedes, kept in files.

An epoch meets the passages of the one before, and so does every look at the dev questions; the frozen
model need read each of them once. Float32 states are kept in half precision where that can hold them,
which moves scores by less than a thousandth of a nat per token and takes half the room.

What is used is always what is kept, or what would have been: each prefix is computed alone and rounded
the same way whether or not it finds room, so results depend neither on the disk nor on who came first.
"""

import contextlib
import hashlib
import json
import shutil
import time
import zlib
from pathlib import Path

import torch
from torch import Tensor

from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError
from qpeft_rerank.files import write_whole
from qpeft_rerank.likelihood.kv_cache import compute_cache
from qpeft_rerank.likelihood.language_model import LanguageModel

# Raised when equal tokens get other files than before.
_FORMAT = 1
# What the disk keeps free: so many bytes, or this share of it.
_RESERVE_BYTES = 2 * 1024**3
_RESERVE_SHARE = 0.05
# Seconds after which an unfinished file is nobody's.
_ABANDONED = 3600

#: Keys and values of one prefix, layer by layer: k, v, k, v, ..., each ``[heads, tokens, d]``.
States = list[Tensor]


class PrefixStore:
    """The states of prefixes, by their token ids. Several processes and trainings may share a folder.

    :param folder: made if absent; files of other models in it do not disturb.
    :raises InputError: if the folder cannot be made.
    """

    def __init__(self, folder: Path, model: LanguageModel) -> None:
        self.folder = folder
        self.model = model
        self._owner = f"{_FORMAT} {model.source.identity} {model.precision}"
        self._full = False
        self._checked: set[str] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in folder.glob(".*.tmp"):
                with contextlib.suppress(FileNotFoundError):  # its owner has just renamed it
                    if time.time() - path.stat().st_mtime > _ABANDONED:
                        path.unlink()
        except OSError as error:
            raise InputError(
                f"--prefix-cache {folder}: cannot be made ({error.strerror}); name a folder, or off"
            ) from None

    def states(self, prefix: tuple[int, ...]) -> States:
        """States of a prefix, in float16 or the model's dtype; from a file they are on the CPU."""
        path = self.path(prefix)
        found = self._read(path)
        if found is not None:
            return found
        computed = self._rounded(self._compute(prefix))
        self._write(path, computed)
        return computed

    def path(self, prefix: tuple[int, ...]) -> Path:
        """The file of a prefix, whether or not it exists."""
        named = f"{self._owner} {' '.join(map(str, prefix))}".encode("ascii")
        return self.folder / f"{hashlib.blake2b(named, digest_size=20).hexdigest()}.safetensors"

    def _compute(self, prefix: tuple[int, ...]) -> States:
        ids = torch.tensor([prefix], device=self.model.device)
        return [part[0] for part in compute_cache(self.model.model.base_model, ids)]

    def _rounded(self, states: States) -> States:
        limit = torch.finfo(torch.float16).max
        if self.model.dtype != torch.float32 or not all(bool(part.abs().max() <= limit) for part in states):
            return states
        return [part.half() for part in states]

    def _read(self, path: Path) -> States | None:
        """What a file holds; None if there is none, or it is not whole."""
        from safetensors import SafetensorError, safe_open

        try:
            # Memory-mapped: what is read stays with the system, for every process.
            with safe_open(path, "pt") as file:
                about = file.metadata()
                flat = file.get_tensor("states")
            if path.name not in self._checked:
                if zlib.crc32(_bytes_of(flat)) != int(about["crc32"]):
                    return None
                self._checked.add(path.name)
            shapes = json.loads(about["shapes"])
            parts = flat.split([heads * tokens * width for heads, tokens, width in shapes])
            return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def _write(self, path: Path, states: States) -> None:
        from safetensors.torch import save

        if self._full:
            return
        flat = torch.cat([part.flatten() for part in states]).cpu()
        about = {
            "shapes": json.dumps([list(part.shape) for part in states]),
            "crc32": str(zlib.crc32(_bytes_of(flat))),
        }
        try:
            if self._has_room():
                # Not forced to the disk: a file that a crash leaves in pieces is recognised.
                write_whole(path, save({"states": flat}, about))
        except OSError as error:
            self._stop(error.strerror or str(error))

    def _has_room(self) -> bool:
        usage = shutil.disk_usage(self.folder)
        room = usage.free > max(_RESERVE_BYTES, _RESERVE_SHARE * usage.total)
        if not room:
            self._stop("the disk is nearly full")
        return room

    def _stop(self, why: str) -> None:
        self._full = True
        say(f"{self.folder} takes no more passages ({why}): further ones are computed each time, with equal results")


def _bytes_of(flat: Tensor) -> memoryview:
    return flat.view(torch.uint8).numpy().data
