"""Where an adapter's files are: a folder, one that ships with the package, or the hub."""

import difflib
import importlib.resources
from pathlib import Path

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import at_home, read_object
from qpeft_rerank.likelihood.hub import snapshot
from qpeft_rerank.prompt.templates import Template, template_from_dict

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
#: Beside the files of PEFT's own methods, which have no place for base identity and prompt.
STAMP = "qpeft_rerank.json"
CARD = "README.md"
#: What helps where one of these files is damaged.
AGAIN = "save or fetch the adapter again"


def _shipped_folder() -> Path:
    return Path(str(importlib.resources.files("qpeft_rerank.adapters"))) / "shipped"


def shipped_adapters() -> list[str]:
    """The names of the adapters that ship with the package."""
    folder = _shipped_folder()
    return sorted(path.parent.name for path in folder.glob(f"*/{CONFIG}")) if folder.is_dir() else []


def find_adapter(name: str) -> Path:
    """The folder of an adapter.

    :param name: a shipped adapter, a folder, or a name on the hub. A folder called as one that ships is given as a path.
    :raises InputError: if there is none; the message suggests near names.
    """
    # First: what is the default must not depend on what lies in the working directory.
    if name in shipped_adapters():
        return _shipped_folder() / name
    path = at_home(name)
    if path.is_dir():
        if not (path / CONFIG).is_file():
            fix = "save or fetch it again" if (path / WEIGHTS).is_file() else "give an adapter's folder"
            raise InputError(f"adapter {name}: no {CONFIG} in this folder; {fix}")
        return path
    if path.is_file():
        raise InputError(f"adapter {name} is a file; give the folder that holds {CONFIG}")
    owner, slash, rest = name.partition("/")
    if not slash or not owner.strip(".~") or "/" in rest or not rest:
        raise InputError(f"no adapter {name!r}: give a folder, a hub name{_shipped(', or ')}{_near(name)}")
    return _download(name)


def saved_template(folder: Path) -> Template | None:
    """The prompt that the adapter in this folder was trained with, no model needed; None if other software saved it.

    :raises InputError: if its files are damaged.
    """
    for path in (folder / CONFIG, folder / STAMP):  # PEFT's own configuration has no room for it
        if path.is_file() and (prompt := read_object(path, AGAIN).get("prompt")) is not None:
            return template_from_dict(prompt, f"{path}, prompt")
    return None


def _download(name: str) -> Path:
    """The hub's snapshot; never a pickle."""
    folder = snapshot(
        "adapter", name, [CONFIG, WEIGHTS, STAMP, CARD], lambda: _shipped("; those that ship: ") + _near(name)
    )
    if not (folder / CONFIG).is_file():
        raise InputError(f"{name!r} has no {CONFIG} on the hub, so it is no adapter")
    return folder


def _shipped(before: str) -> str:
    names = shipped_adapters()
    return before + ", ".join(names) if names else ""


def _near(name: str) -> str:
    """Near names among the shipped adapters and the adapter folders beside the one asked for."""
    known = shipped_adapters()
    parent = at_home(name).parent
    if parent.is_dir():
        known += [str(path.parent) for path in parent.glob(f"*/{CONFIG}")]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""
