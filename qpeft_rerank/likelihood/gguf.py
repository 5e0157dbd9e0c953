"""GGUF files, converted once to a plain model folder in the user's cache."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qpeft_rerank.cache import cache_dir
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError, first_line
from qpeft_rerank.likelihood.device_faults import pass_on_faults
from qpeft_rerank.likelihood.identity import file_digest
from qpeft_rerank.likelihood.loading import read_model, read_tokenizer, refusal
from qpeft_rerank.likelihood.out_of_memory import fitting

# Raised when a change here makes folders converted earlier wrong.
_FORMAT = 2


def conversion(path: Path) -> str:
    """A digest of what a GGUF file is converted to: of the file and of the way."""
    return hashlib.sha256(f"gguf {_FORMAT} {file_digest(path)}".encode("ascii")).hexdigest()[:32]


def converted_folder(path: Path) -> Path:
    """The folder with this GGUF file's model in float32, converting it on first use.

    Safe when two processes start together: one converts, the other waits for it. The folder
    appears only when it is complete.

    :raises InputError: if the file is not GGUF, of an architecture that is not supported, or finds no room when converted.
    """
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InputError(f"{path}: not a GGUF file (it does not start with 'GGUF')")
    folder = cache_dir() / "models" / f"{path.stem}-{file_digest(path)[:16]}-v{_FORMAT}"
    if folder.is_dir():
        return folder
    with _alone(folder):
        if not folder.is_dir():
            _remove_what_a_killed_one_left(folder)
            say(f"converting {path.name} to {folder} (once, up to a minute)")
            fresh = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
            try:
                with fitting(f"{path}: converting it takes more memory than there is; close other programs"):
                    _convert(path, fresh)
                # mkdtemp and safetensors let nobody but the owner read; a cache may be shared.
                fresh.chmod(0o755)
                for part in fresh.iterdir():
                    part.chmod(0o644)
                os.replace(fresh, folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Within the block no other process makes this folder.

    :raises InputError: if the cache cannot be written.
    """
    from filelock import FileLock

    lock = FileLock(f"{folder}.lock")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise InputError(
            f"{folder.parent}: cannot be written ({error.strerror}); set QPEFT_RERANK_CACHE to a folder that can"
        ) from None
    try:
        yield
    finally:
        lock.release()


def _remove_what_a_killed_one_left(folder: Path) -> None:
    """Remove unfinished folders, each as large as a model: while nobody else makes this one, nobody will finish them."""
    for left in folder.parent.iterdir():
        if left.name.startswith(f"{folder.name}.") and left.is_dir():
            shutil.rmtree(left, ignore_errors=True)


def _convert(path: Path, target: Path) -> None:
    from qpeft_rerank.likelihood.quiet import quiet_transformers

    quiet_transformers()
    import torch

    try:
        tokenizer = read_tokenizer(path.parent, gguf_file=path.name)
        loaded = read_model(path.parent, torch.float32, gguf_file=path.name)
    except Exception as error:  # a damaged file fails in as many ways as it has bytes
        pass_on_faults(error)
        raise refusal(f"{path}: cannot be read as a causal language model", error) from None
    config = loaded.config
    if hasattr(config, "quantization_config"):
        # Weights are dequantised now; transformers refuses to save them as long as this is set.
        del config.quantization_config
    plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict())
    save(plain, tokenizer, target)


def save(model: Any, tokenizer: Any, target: Path) -> None:
    """Write a model folder.

    :raises InputError: if the disk does not take it.
    """
    from safetensors import SafetensorError

    try:
        model.save_pretrained(target)
        tokenizer.save_pretrained(target)
    except (OSError, SafetensorError) as error:
        raise InputError(
            f"{target.parent}: the converted model cannot be written ({first_line(error)}); free some space, or set "
            "QPEFT_RERANK_CACHE to another folder"
        ) from None
