"""What a model's files contain, as a short digest: the same weights are the same model, whatever the path."""

import hashlib
import json
from pathlib import Path

from qpeft_rerank.cache import cache_dir, keep
from qpeft_rerank.files import read_object

# A digest is kept under the file's inode, size and time, so that large weights are read only once; small files are
# read again sooner than looked up.
_KEPT, _LARGE_BYTES = "digests", 16 << 20

#: How names begin of weights that repositories hold a second time, in a layout that transformers does not read.
SECOND_COPY = "consolidated"
#: By which a folder holds one of PEFT's adapters; ``transformers`` puts it into the model that lies in the same folder.
ADAPTER = "adapter_config.json"
_TOKENIZER_FILES = ("*token*.json", "vocab*", "merges.txt", "*.model", "*.tiktoken")


def file_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal; that of a large one is remembered until it changes."""
    state = path.stat()
    if state.st_size < _LARGE_BYTES:
        return content_digest(path)
    seen = f"{state.st_dev}-{state.st_ino}-{state.st_size}-{state.st_mtime_ns}"
    kept = cache_dir() / _KEPT / seen
    if kept.is_file() and len(digest := kept.read_text("ascii").strip()) == 64:
        return digest
    digest = content_digest(path)
    keep(kept, digest)
    return digest


def content_digest(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def model_identity(folder: Path) -> str:
    """A digest of a model folder: its weights, and the configuration that shapes them, an adapter's among them.

    :raises InputError: for a configuration that is no JSON object.
    """
    config = read_object(folder / "config.json", "fetch or save the model again")
    found = [path for path in folder.glob("*.safetensors") if not path.name.startswith(SECOND_COPY)]
    # Where transformers reads no pickles they are a copy, or what a trainer left; from the hub none are fetched then.
    unread = any(path.name.startswith("model") for path in found)
    weights = sorted([*found, *(() if unread else folder.glob("*.bin"))])
    summary = hashlib.sha256()
    for path in weights:
        summary.update(file_digest(path).encode("ascii"))
    # Which release wrote the file, and from where, changes no score.
    for key in ("_name_or_path", "_model_name_or_path", "transformers_version"):
        config.pop(key, None)
    summary.update(json.dumps(config, sort_keys=True).encode("utf-8"))
    if (adapter := folder / ADAPTER).is_file():
        summary.update(file_digest(adapter).encode("ascii"))
    return summary.hexdigest()[:32]


def tokenizer_identity(folder: Path) -> str:
    """A digest of the files in a model folder that make its tokenizer."""
    summary = hashlib.sha256()
    for path in sorted({path for pattern in _TOKENIZER_FILES for path in folder.glob(pattern)}):
        summary.update(f"{path.name} {file_digest(path)} ".encode())
    return summary.hexdigest()[:32]
