"""Adapters on disk, in PEFT's layout: ``adapter_config.json`` and ``adapter_model.safetensors``, never a pickle."""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from qpeft_rerank import __version__
from qpeft_rerank.adapters.base import Adapter
from qpeft_rerank.adapters.card import Card, render
from qpeft_rerank.adapters.find import AGAIN, CARD, CONFIG, STAMP, WEIGHTS, find_adapter
from qpeft_rerank.adapters.peft_bridge import PeftAdapter
from qpeft_rerank.adapters.registry import Kind, adapter_kinds, create_adapter, find_kind
from qpeft_rerank.console import say
from qpeft_rerank.errors import InputError, first_line, one_line
from qpeft_rerank.files import read_object
from qpeft_rerank.launched import speaks
from qpeft_rerank.likelihood.causal_model import CausalModel
from qpeft_rerank.likelihood.identity import content_digest
from qpeft_rerank.likelihood.language_model import LanguageModel
from qpeft_rerank.likelihood.out_of_memory import fitting_adapter
from qpeft_rerank.likelihood.sources import EMBEDDED_HUB, ModelSource
from qpeft_rerank.prompt.templates import Template, template_from_dict

# Raised when an older release could no longer read what this one writes.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class LoadedAdapter:
    """An adapter with the prompt that it was trained with.

    :param hinter: what the scorer takes.
    :param template: its prompt; None for one that other software saved, which names none.
    """

    hinter: "Adapter[Any] | PeftAdapter"
    template: Template | None


def save_adapter(
    adapter: "Adapter[Any] | PeftAdapter",
    model: CausalModel,
    template: Template,
    folder: Path,
    card: Card | None = None,
    half: bool = False,
) -> Path:
    """Write an adapter; return its folder.

    :param half: round its numbers to float16, for half the size; PEFT's own keep their dtype.

    A new folder appears whole or not at all. In an existing adapter's folder the configuration goes first and
    comes last, so that what a replacement left that was broken off is no adapter.

    :raises InputError: if the folder holds something else, or cannot be written.
    """
    from safetensors import SafetensorError

    folder = folder.absolute()
    known = any((folder / name).is_file() for name in (CONFIG, WEIGHTS))
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not known)):
        raise InputError(f"{folder}: holds something else than an adapter; give another folder")
    fresh = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True)
        _fill(fresh, adapter, model, template, card or Card(), folder.name, half)
        if folder.exists():
            for name in (CONFIG, STAMP):
                (folder / name).unlink(missing_ok=True)
            for path in sorted(fresh.iterdir(), key=lambda path: path.name == CONFIG):
                path.replace(folder / path.name)
        else:
            fresh.rename(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error.strerror or error})") from None
    except SafetensorError as error:  # of a full disk, too
        raise InputError(f"{folder}: cannot be written ({first_line(error)})") from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return folder


def _fill(
    folder: Path,
    adapter: "Adapter[Any] | PeftAdapter",
    model: CausalModel,
    template: Template,
    card: Card,
    name: str,
    half: bool,
) -> None:
    from safetensors.torch import save_file

    versions = {
        "qpeft_rerank": __version__,
        **{name: version(name) for name in ("torch", "transformers", "peft")},
    }
    stamp: dict[str, Any] = {
        "format_version": FORMAT,
        "base_model_name_or_path": model.source.full_name,
        "base_model_identity": model.source.identity,
        "versions": versions,
        "prompt": template.to_dict(),
    }
    if isinstance(adapter, PeftAdapter):
        title = adapter.kind.lower().replace("_", "-")
        adapter.save(folder, model.source.full_name)
        stamp["weights_sha256"] = content_digest(folder / WEIGHTS)
        _write_json(folder / STAMP, stamp)
    else:
        title, config = adapter.config.name, adapter.config
        weights = adapter.weights()
        if half:
            weights = {key: tensor.half() if tensor.is_floating_point() else tensor for key, tensor in weights.items()}
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
        stamp["weights_sha256"] = content_digest(folder / WEIGHTS)
        described = {
            "peft_type": find_kind(title).peft_type,
            "task_type": "CAUSAL_LM",
            "peft_version": versions["peft"],
        }
        _write_json(folder / CONFIG, {**described, **stamp, "adapter": config.to_dict()})
    text = render(card, name, title, model.source, versions)
    (folder / CARD).write_text(text, "utf-8")
    # safetensors lets nobody but the owner read; an adapter is there to be shared.
    shutil.copymode(folder / CARD, folder / WEIGHTS)


def load_adapter(name: str, model: CausalModel) -> LoadedAdapter:
    """Load an adapter for a model.

    :param name: a folder, a name on the hub, or a shipped adapter.
    :raises InputError: if there is none, it is damaged or newer than this release, or belongs to
        another base model, or does not fit into memory.
    """
    with fitting_adapter(f"adapter {name}", model.device):
        return _load(name, find_adapter(name), model)


def _load(name: str, folder: Path, model: CausalModel) -> LoadedAdapter:
    config = read_object(folder / CONFIG, AGAIN)
    peft_type = config.get("peft_type")
    if not isinstance(peft_type, str):
        raise InputError(f"{folder / CONFIG}: no peft_type, so it is no adapter's configuration")
    kinds = {kind.peft_type: kind for kind in adapter_kinds().values()}
    if peft_type in kinds:
        return _load_own(name, folder, config, kinds[peft_type], model)
    template = None
    if (folder / STAMP).is_file():
        stamp = read_object(folder / STAMP, AGAIN)
        template = _check_stamp(stamp, name, folder / STAMP, folder, model)
    if not isinstance(model, LanguageModel):
        raise InputError(f"adapter {name}: PEFT's methods need a model that LanguageModel.load loaded")
    adapter = PeftAdapter.load(model, folder, name)
    if template is None:
        _tell_base(name, config.get("base_model_name_or_path"), model.source)
    return LoadedAdapter(adapter, template)


def _tell_base(name: str, base: Any, source: ModelSource) -> None:
    """Tell where an adapter that bears no digest of its base names another model: PEFT itself looks at shapes alone."""
    own = {_last_part(known) for known in (source.name, source.full_name, str(source.folder))}
    if isinstance(base, str) and base and _last_part(base) not in own:
        _say_once(
            f"adapter {name} was made for {base}, and is used on {source.full_name}: its scores mean something only if "
            "these are the same weights"
        )


def _last_part(name: str) -> str:
    """What a model goes by wherever it lies: the last part of a path or a hub's name, which has no case."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2].casefold()


@cache
def _say_once(message: str) -> None:
    """Once a process and job: a model that is loaded again takes its adapter again."""
    if speaks():
        say(message)


def in_layers(name: str) -> bool:
    """Whether an adapter may change the model's layers: whether it is one of PEFT's own, or of no known kind.

    :raises InputError: if there is none, or its configuration is damaged.
    """
    config = read_object(find_adapter(name) / CONFIG, AGAIN)
    return config.get("peft_type") not in {kind.peft_type for kind in adapter_kinds().values()}


def _load_own(name: str, folder: Path, config: dict[str, Any], kind: Kind, model: CausalModel) -> LoadedAdapter:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    template = _check_stamp(config, name, folder / CONFIG, folder, model)
    options = kind.config.from_dict(config.get("adapter"), str(folder / CONFIG)).to_dict()
    # Every field is spelled out, so the preset that they change does not matter.
    try:
        adapter = create_adapter(kind.name, model, template, **options)
    except InputError as error:
        raise InputError(f"{folder / CONFIG}: {error}") from None
    try:
        weights = load_file(folder / WEIGHTS)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{folder / WEIGHTS}: damaged ({first_line(error)})") from None
    adapter.load_weights(weights, str(folder / WEIGHTS))
    return LoadedAdapter(adapter, template)


def _check_stamp(stamp: Mapping[str, Any], name: str, source: Path, folder: Path, model: CausalModel) -> Template:
    """Refuse newer formats, other base models and damaged weights; return the prompt."""
    found = stamp.get("format_version")
    if type(found) is not int or found < 1:  # true would be 1
        raise InputError(f"{source}: damaged (no format_version)")
    if found > FORMAT:
        raise InputError(f"{source}: format {found} is newer than this release reads ({FORMAT}); upgrade qpeft_rerank")
    if stamp.get("base_model_identity") != model.source.identity:
        base = stamp.get("base_model_name_or_path")
        if base == model.source.full_name:
            own = ", which may be embedded: its weights are rounded" if base == EMBEDDED_HUB else ""
            raise InputError(f"adapter {name} belongs to other weights of {base}; give its own with --model{own}")
        raise InputError(
            f"adapter {name} belongs to another model, {base}, than {model.source.full_name} (weights or configuration "
            "differ); give its own with --model"
        )
    if not (folder / WEIGHTS).is_file():
        raise InputError(f"{folder / WEIGHTS}: is missing; {AGAIN}")
    if content_digest(folder / WEIGHTS) != stamp.get("weights_sha256"):
        raise InputError(f"{folder / WEIGHTS}: damaged (its digest is not the one in {source.name})")
    return template_from_dict(stamp.get("prompt"), f"{source}, prompt")


def push_to_hub(folder: str | Path, repository: str, *, private: bool = False) -> str:
    """Upload a saved adapter to the hub, model card included; return its address.

    :param repository: ``owner/name``, or a name of your own.
    :raises InputError: if the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    folder = Path(folder)
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no {CONFIG}, so no adapter to upload")
    hub = HfApi()
    try:
        full = hub.create_repo(repository, private=private, exist_ok=True).repo_id
        hub.upload_folder(repo_id=full, folder_path=str(folder), allow_patterns=[CONFIG, WEIGHTS, STAMP, CARD])
    except Exception as error:  # of the hub, or of whichever library carries it
        raise InputError(f"{repository}: cannot be uploaded ({one_line(error)})") from None
    return f"https://huggingface.co/{full}"


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", "utf-8")
