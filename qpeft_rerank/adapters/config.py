"""What every adapter's configuration shares: checked fields, plain data in and out, presets."""

import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, Self, Union, get_args, get_origin, get_type_hints

from qpeft_rerank.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """Base of the configurations. A subclass adds fields with defaults, its name, and its presets.

    The defaults are the preset ``corrected``; every other preset is a table of the fields in which it
    differs, so a saved configuration always spells out each choice.
    """

    name: ClassVar[str] = ""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {"corrected": {}}

    def __post_init__(self) -> None:
        for field, kind in _field_types(type(self)).items():
            value = getattr(self, field)
            if not _fits(value, kind):
                raise InputError(f"adapter {self.name}: {field} is {_said(kind)}, not {value!r}")
        self.check()

    def check(self) -> None:
        """Raise :class:`InputError` for values that do not go together."""

    def to_dict(self) -> dict[str, Any]:
        """The configuration as plain data."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_dict(cls, values: Any, source: str) -> Self:
        """Read plain data; a fault names ``source``."""
        if not isinstance(values, Mapping):
            raise InputError(f"{source}: the configuration of {cls.name} is not a mapping")
        known = [field.name for field in fields(cls)]
        for key in values:
            if key not in known:
                raise InputError(f"{source}: {cls.name} has no option {key!r}; it has {', '.join(known)}")
        try:
            return cls(**values)
        except InputError as error:
            raise InputError(f"{source}: {error}") from None

    @classmethod
    def preset(cls, preset: str = "corrected", **changes: Any) -> Self:
        """A preset's configuration, with some fields changed.

        :raises InputError: for an unknown preset or field, or a value out of range.
        """
        if preset not in cls.presets:
            raise InputError(f"adapter {cls.name}: no preset {preset!r}; give {', '.join(cls.presets)}")
        return cls.from_dict({**cls.presets[preset], **changes}, f"preset {preset}")

    def _at_least(self, least: int, name: str) -> None:
        if getattr(self, name) < least:
            raise InputError(f"adapter {self.name}: {name} must be at least {least}, not {getattr(self, name)}")

    def _letters(self, given: str, allowed: str) -> None:
        if len(set(given)) != len(given) or not set(given) <= set(allowed):
            raise InputError(f"adapter {self.name}: filters are letters of {allowed!r}, not {given!r}")


def _field_types(config: type[AdapterConfig]) -> dict[str, Any]:
    hints = get_type_hints(config)
    return {field.name: hints[field.name] for field in fields(config)}


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) is Literal:
        return isinstance(value, str) and value in get_args(kind)
    if get_origin(kind) in (Union, types.UnionType):
        return any(_fits(value, option) for option in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, kind)


def _said(kind: Any) -> str:
    """A type in the user's words."""
    if get_origin(kind) is Literal:
        return " or ".join(get_args(kind))
    if get_origin(kind) in (Union, types.UnionType):
        return " or ".join(_said(option) for option in get_args(kind))
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
    return words[kind]
