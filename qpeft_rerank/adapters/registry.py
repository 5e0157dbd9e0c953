"""Which adapters there are: every folder beside this file registers its own."""

import importlib
import pkgutil
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import qpeft_rerank.adapters
from qpeft_rerank.adapters.config import AdapterConfig
from qpeft_rerank.adapters.vectors_check import refuse_vectors
from qpeft_rerank.errors import InputError
from qpeft_rerank.likelihood.seeds import seeded

if TYPE_CHECKING:
    from qpeft_rerank.adapters.base import Adapter
    from qpeft_rerank.likelihood.causal_model import CausalModel
    from qpeft_rerank.prompt.templates import Template


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of adapter.

    :param name: what users call it.
    :param peft_type: what its ``adapter_config.json`` calls it.
    """

    name: str
    peft_type: str
    config: type[AdapterConfig]
    module: "type[Adapter[Any]]"


_kinds: dict[str, Kind] = {}


def register(peft_type: str, config: type[AdapterConfig], module: "type[Adapter[Any]]") -> None:
    """Make an adapter known; called once by its folder's ``__init__``."""
    _kinds[config.name] = Kind(config.name, peft_type, config, module)


@cache
def _load_folders() -> None:
    for entry in pkgutil.iter_modules(qpeft_rerank.adapters.__path__):
        if entry.ispkg:
            importlib.import_module(f"qpeft_rerank.adapters.{entry.name}")


def adapter_kinds() -> dict[str, Kind]:
    """The kinds of adapters by name, in alphabetical order."""
    _load_folders()
    return dict(sorted(_kinds.items()))


def find_kind(name: str) -> Kind:
    """The kind of this name.

    :raises InputError: if there is none.
    """
    kinds = adapter_kinds()
    if name not in kinds:
        raise InputError(f"no adapter {name!r}; give {', '.join(kinds)}")
    return kinds[name]


def create_adapter(
    name: str,
    model: "CausalModel",
    template: "Template",
    preset: str = "corrected",
    *,
    seed: int = 0,
    **options: Any,
) -> "Adapter[Any]":
    """Make an untrained adapter.

    :param name: ``qpeft-r``, ``qpeft-a`` or ``soft-prompt``.
    :param template: the prompt that it will be used with; gives the hint block and the soft prompt.
    :param preset: where the configuration starts from; ``options`` change single fields of it.
    :param seed: decides random initial weights, and nothing else; the global generator is untouched.
    :raises InputError: for an unknown name, preset or option, and a model that takes no vectors.
    """
    kind = find_kind(name)
    config = kind.config.preset(preset, **options)
    refuse_vectors(model, name)
    with seeded(seed):
        return kind.module(config, model, template).to(model.device).eval()
