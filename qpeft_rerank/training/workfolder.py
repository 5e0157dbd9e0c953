"""The folder of a training: work beside the output until it is complete, then one rename."""

import os
import shutil
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import IO

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import held, release
from qpeft_rerank.trec.lines import is_text


class Kept(StrEnum):
    """What a training makes in its work folder."""

    LOCK = "lock"
    LOG = "log.csv"
    PICTURE = "training.png"
    BOARD = "tensorboard"
    ZERO_SHOT = "zero-shot.json"
    CHECKPOINTS = "checkpoints"
    PREFIXES = "prefixes"
    MADE = "made"
    REPLACED = "replaced"
    FINISHED = "finished"


def checked_output(output: str | Path, overwrite: bool) -> Path:
    """The whole path of the folder that a training makes.

    :param overwrite: whether it may replace an adapter.
    :raises InputError: if something is there that it may not replace, or no folder can ever be.
    """
    # Of ".", too, the name is wanted.
    whole = Path(os.path.abspath(output))
    if not whole.name:
        raise InputError(f"--output {whole}: is no name of a folder to be made; name one")
    if whole.is_dir():
        # A link stays, and what it points to is replaced.
        whole = Path(os.path.realpath(whole))
    if os.path.ismount(whole):
        # A container's volume: the finished adapter could not be renamed over it.
        raise InputError(f"--output {whole}: is a mount point and cannot be replaced; name a folder in it")
    if not is_text(str(whole)):
        # Checkpoints are read by safetensors, which opens no other path.
        raise InputError(f"--output {whole}: the path is not valid UTF-8; name another folder")
    clear_finished(whole)
    full = whole.is_dir() and any(whole.iterdir())
    if os.path.lexists(whole) and not whole.is_dir():
        raise InputError(f"--output {whole}: is a file; name another folder")
    if full and not overwrite:
        raise InputError(f"--output {whole}: exists; add --overwrite to replace it, or name another folder")
    if full and not (whole / "adapter_config.json").is_file():
        raise InputError(f"--output {whole}: holds something else than an adapter; name another folder")
    work = _work_of(whole)
    foreign = sorted(path.name for path in work.iterdir() if not _is_own(path.name)) if work.is_dir() else []
    if foreign:
        # It goes when the training ends.
        raise InputError(
            f"--output {output}: is made in {work}, which holds something else ({foreign[0]}); name another folder"
        )
    return whole


def clear_finished(output: Path) -> None:
    """Remove what a training left that was killed after it had made its output, and before it had removed the rest."""
    work = _work_of(output)
    if not (work / Kept.FINISHED).is_file() or (work / Kept.MADE / output.name).exists():
        return
    with suppress(InputError, OSError), held(work / Kept.LOCK, ""):  # another training is at work there
        _remove(work)


def _remove(work: Path) -> None:
    """Remove a work folder, and last what tells that its training has finished."""
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        elif path.name != Kept.FINISHED:
            path.unlink(missing_ok=True)
    shutil.rmtree(work, ignore_errors=True)


def _work_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.training")


def _is_own(name: str) -> bool:
    """Whether a training makes what is called so in its work folder; files that are being written begin with a dot."""
    return name in set(Kept) or name.startswith(".")


class WorkFolder:
    """``OUTPUT.training`` with log and checkpoints, and ``OUTPUT`` at the end. Use it in a ``with`` block.

    :param output: the adapter's folder.
    :param overwrite: replace an ``output`` that exists.
    :param main: whether this process makes folders and holds the lock.
    :raises InputError: as :func:`checked_output` does, and if another process trains it.
    """

    def __init__(self, output: Path, overwrite: bool, main: bool = True) -> None:
        self.output = output = checked_output(output, overwrite)
        self.path = _work_of(output)
        #: Where the adapter's folder is made, apart from what the training keeps.
        self.made = self.path / Kept.MADE / output.name
        self._lock: IO[bytes] | None = None
        if not main:
            return
        busy = f"--output {output}: another process trains it; wait or name another folder"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = held(self.path / Kept.LOCK, busy)
            # One that was killed just before its output had its name goes on.
            (self.path / Kept.FINISHED).unlink(missing_ok=True)
        except OSError as error:
            raise InputError(f"--output {output}: cannot be made ({error.strerror}); name another folder") from None

    def __enter__(self) -> "WorkFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._lock is not None:
            # Refused before anything was made in it.
            unused = self.path.is_dir() and [path.name for path in self.path.iterdir()] == [Kept.LOCK]
            release(self._lock, self.path / Kept.LOCK, unused)
            if unused:
                with suppress(OSError):
                    self.path.rmdir()

    def finish(self) -> None:
        """Move :attr:`made`, which is complete now, to the output; remove the rest."""
        made = self.made
        for name in (Kept.LOG, Kept.PICTURE):
            if (self.path / name).is_file():
                shutil.copyfile(self.path / name, made / name)
        if (self.path / Kept.BOARD).is_dir():
            shutil.copytree(self.path / Kept.BOARD, made / Kept.BOARD)
        if self.output.exists():
            # Moved away first: a folder cannot be renamed over a full one. Nor over what a killed process left of that.
            shutil.rmtree(self.path / Kept.REPLACED, ignore_errors=True)
            os.rename(self.output, self.path / Kept.REPLACED)
        (self.path / Kept.FINISHED).touch()
        os.rename(made, self.output)
        _remove(self.path)
