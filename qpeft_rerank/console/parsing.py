"""A command's arguments, and what is wrong with them in one line."""

import argparse
import json
import re
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from qpeft_rerank.errors import InputError
from qpeft_rerank.launched import speaks

# Most that Lucene and torch take for a count.
_MOST = 2**31 - 1
_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")
_STDIN = ("/dev/stdin", "/dev/fd/0", "/proc/self/fd/0")


class Parser(argparse.ArgumentParser):
    """A command's arguments, whose faults are told as all others: in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong, once for all processes of a job, and end with status 2."""
        self.exit(2, f"error: {' '.join(message.split())}\n" if speaks() else None)


def positive(text: str) -> int:
    """The argparse type of a count: a whole number from 1."""
    return _whole(text, 1)


def from_zero(text: str) -> int:
    """The argparse type of a count that may be none: a whole number from 0."""
    return _whole(text, 0)


def _whole(text: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if value < least:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least}")
    if value > _MOST:
        raise argparse.ArgumentTypeError(f"{text!r} is more than {_MOST:,}")
    return value


def arguments(parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse a command's arguments; an empty one, such as a variable that is not set leaves, is refused.

    The system's names of stdout become ``-``: sent to a file, they would look like that file. So do those of stdin,
    which may be asked for under several, but for passages: of a file given as stdin they are looked up by id.
    """
    args = parser.parse_args(argv)
    for name, value in vars(args).items():
        streams = _STDOUT if name.endswith("corpus") else _STDOUT + _STDIN
        if isinstance(value, list):
            value = ["-" if one in streams else one for one in value]
        elif value in streams:
            value = "-"
        setattr(args, name, value)
        if "" in (value if isinstance(value, list) else [value]):
            parser.error(f"argument --{name.replace('_', '-')}: is empty; give a value, or leave it out")
    return args


def inputs(args: argparse.Namespace, *names: str) -> list[tuple[str, str]]:
    """What a command was told to read, each with its flag; see :func:`~qpeft_rerank.trec.output.check_output`."""
    given = [(_flag(name), getattr(args, name)) for name in names]
    return [(flag, one) for flag, value in given for one in (value if isinstance(value, list) else [value]) if one]


def check_stdin(args: argparse.Namespace, *names: str) -> None:
    """Refuse ``-`` for more than one of a command's inputs."""
    if [value for _, value in inputs(args, *names)].count("-") > 1:
        raise InputError(f"{', '.join(map(_flag, names))}: only one of them can come from stdin (-)")


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def settings(given: Iterable[str]) -> dict[str, Any]:
    """Values of ``--option NAME=VALUE``, read as JSON where they are that; of a name given twice the last.

    :raises InputError: for one without a name or a sign of equality, and for one that begins as JSON does and is none:
        taken for a text, it would be what was hardly meant.
    """
    found: dict[str, Any] = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise InputError(f"--option {text}: write NAME=VALUE")
        try:
            found[name] = json.loads(value)
        except ValueError:
            if value.lstrip().startswith(("[", "{")):
                raise InputError(f"--option {text}: {value} is no JSON; {_as_json(name, value)}") from None
            found[name] = value
    return found


def _as_json(name: str, value: str) -> str:
    """How a shell takes it as what it may be: a list of names, or a text such as a regular expression."""
    ways = [f"as a text {shlex.quote(f'{name}={json.dumps(value, ensure_ascii=False)}')}"]
    if names := re.fullmatch(r"\s*\[([\w.\s,'-]+)\]\s*", value):
        listed = [one for part in names[1].split(",") if (one := part.strip(" '"))]
        ways.insert(0, f"as a list {shlex.quote(f'{name}={json.dumps(listed, ensure_ascii=False)}')}")
    return f"write it {', or '.join(ways)}"
