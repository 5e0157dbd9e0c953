"""YAML files of records: mappings by name, whose values have the types of a dataclass."""

import dataclasses
import difflib
import types
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import parse_yaml

Made = TypeVar("Made")
_CALLED: dict[Any, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list of texts",
    Mapping: "a mapping",
    type(None): "nothing",
}


def read_records(kind: Callable[..., Made], path: Path, apart: Iterable[str] = ()) -> dict[str, Made]:
    """The records of a file by name; a record's own field ``name`` is that.

    :param kind: a dataclass.
    :param apart: keys that make up the field ``settings``, if there are any.
    :raises InputError: for a file that is no YAML, a key that is unknown or lacking, and a value of another type.
    """
    of: Any = kind
    hints, apart = get_type_hints(of), tuple(apart)
    fields = {field.name: field for field in dataclasses.fields(of) if field.name != "name"}
    needed = [name for name, field in fields.items() if field.default is field.default_factory is dataclasses.MISSING]
    found = {}
    for name, given in read_yaml(path).items():
        where = f"{path}: {name}"
        if not isinstance(given, dict):
            raise InputError(f"{where} is not a mapping")
        values = {key: value for key, value in given.items() if key not in apart}
        if apart:
            values["settings"] = {key: given[key] for key in apart if key in given}
        known(where, "key", values, fields)
        if missing := [key for key in needed if key not in values]:
            raise InputError(f"{where} has no {missing[0]}")
        for key, value in values.items():
            if not _fits(value, hints[key]):
                raise InputError(f"{where}: {key} is {_called(hints[key])}, not {value!r}")
        found[str(name)] = kind(name=str(name), **values)
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML mapping; :class:`InputError` names file and line."""
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8; save the file in that encoding") from None
    values = parse_yaml(text, str(path), long=True)
    if not isinstance(values, dict):
        raise InputError(f"{path}: not a YAML mapping")
    return values


def known(where: str, what: str, given: Iterable[str], names: Iterable[str]) -> None:
    """Refuse a name that is not among ``names``; the message suggests the nearest."""
    listed = list(names)
    for name in given:
        if name not in listed:
            near = difflib.get_close_matches(str(name), listed, 3, 0.5) or listed
            raise InputError(f"{where}: no {what} {name!r}; give {', '.join(near)}")


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value has a field's type, as far as the records' fields have any."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is list:
        return isinstance(value, list) and all(_fits(one, inner[0]) for one in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_fits(one, inner[1]) for one in value.values())
    if hint in (int, float):  # true is no number; a whole one is one with a fraction, too
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return hint is Any or isinstance(value, hint)


def _called(hint: Any) -> str:
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return " or ".join(_CALLED[get_origin(part) or part] for part in parts)
