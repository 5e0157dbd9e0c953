"""Files of others, or that others may read or write at the same time: locks, whole writes, and JSON of any depth."""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from qpeft_rerank.errors import InputError, first_line

# Deeper brackets than any file needs, and far fewer than a stack holds.
_DEEPEST = 500
_MEND_YAML = "mend it, or put it in quotes"
_JSON_STRING, _BRACKET = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL), re.compile(r"[][{}]")
# So many processes do not end one after the other: on some file systems of networks a file never looks like itself.
_TRIES = 20
# What file systems without locks say, as some of clusters' are.
_NO_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK)


def hold(file: IO[bytes], refusal: str) -> None:
    """Lock an open file until it is closed.

    :raises InputError: with ``refusal`` if another process holds it. Windows and some file systems have no such lock:
        there it is the user's to avoid.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise InputError(refusal) from None


def at_home(name: str) -> Path:
    """A path as a shell would have it, with a home folder in place of ``~`` or ``~user``.

    :raises InputError: if that user is not known, or this one has no folder, as in some containers.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError:
        raise InputError(f"{name}: that home folder is not known; set HOME, or write the path in full") from None


def as_text(name: str) -> str:
    """A name as text: a file's may hold bytes that are none."""
    return os.fsencode(name).decode("utf-8", "replace")


def append(file: IO[bytes], path: Path, data: bytes) -> None:
    """Hand all of ``data`` to the system, so that a killed process loses nothing that it wrote.

    :raises InputError: if the system does not take it.
    """
    with taken(path):
        while data:
            data = data[os.write(file.fileno(), data) :]


@contextmanager
def taken(path: Path) -> Iterator[None]:
    """Inside the context a file is written by a job that goes on where it stopped.

    :raises InputError: if the system does not take it, with the file, which its own error may not name.
    """
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); free some space and go on") from None


def write_whole(path: Path, data: bytes, durable: bool = False) -> None:
    """Write a file through a temporary name beside it, so that nobody sees half of it.

    :param durable: wait until it is on the disk, and survives a loss of power.
    """
    fresh = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(fresh, path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


@contextmanager
def replacing(path: str) -> Iterator[IO[bytes]]:
    """Give a stream that becomes ``path`` when the block ends well and vanishes otherwise.

    One process writes a file at a time, under one temporary name beside it, so that the next one takes over what a
    killed one left. A link is kept; a device or a named pipe is written to directly.

    :raises InputError: if another process is writing it.
    :raises OSError: if it cannot be written.
    """
    if os.path.exists(path) and not os.path.isfile(path):  # renaming over it would destroy it; a directory fails here
        with open(path, "wb") as direct:
            yield direct
        return
    final, temporary = os.path.realpath(path), temporary_name(path)
    with held(temporary, f"{path}: another process is writing it; wait for it, or name another file") as stream:
        try:
            stream.truncate(0)
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
            _let_rename(stream)
            os.replace(temporary, final)
        except BaseException:
            _let_rename(stream)
            os.unlink(temporary)
            raise


def temporary_name(path: str) -> str:
    """Where a file is written before it has its name: beside it, or beside what a link points to."""
    folder, name = os.path.split(os.path.realpath(path))
    return os.path.join(folder, f".{name}.tmp")


def held(path: str | Path, refusal: str) -> IO[bytes]:
    """A file, made if absent, open to be read and appended to, and this process's alone until it is closed.

    A process that was killed holds none.

    :raises InputError: with ``refusal`` if another process holds it.
    :raises OSError: if it cannot be opened.
    """
    tries = 0
    while True:
        tries += 1
        stream = open(path, "a+b")  # noqa: SIM115 (open for as long as it is held)
        try:
            hold(stream, refusal)
            if is_open(stream, path) or tries == _TRIES:
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()  # a process that has just ended has given it another name, or removed it


def is_open(stream: IO[bytes], path: str | Path) -> bool:
    """Whether a path is that of an open file, and not of another or none by now."""
    return os.path.exists(path) and os.path.samestat(os.stat(path), os.fstat(stream.fileno()))


def release(stream: IO[bytes], path: str | Path, unused: bool) -> None:
    """Close a file that :func:`held` gave; one that came to nothing is removed."""
    if unused:
        with suppress(OSError):  # an open file, where that cannot be: it stays
            if is_open(stream, path):
                os.unlink(path)
    stream.close()


def _let_rename(stream: IO[bytes]) -> None:
    """Close the file where an open one can be neither renamed nor removed; elsewhere that would let others in."""
    if os.name == "nt":
        stream.close()


def parse_yaml(text: str, source: str, long: bool = False) -> Any:
    """The value of a YAML text.

    :param source: where it is from, for messages.
    :param long: it may be thousands of lines: read by the parser in C where there is one, which is several times as quick
        and words some faults otherwise.
    :raises InputError: naming the line, too, where the parser tells. A key that a mapping has twice is a fault,
        as YAML's rules have it: PyYAML would take the last one and say nothing.
    """
    import yaml

    try:
        return yaml.load(text, Loader=_yaml_loader(long))
    except yaml.MarkedYAMLError as error:
        place = f"{source}:{error.problem_mark.line + 1}" if error.problem_mark else source
        raise InputError(f"{place}: not YAML ({error.problem}); {_MEND_YAML}") from None
    except (yaml.YAMLError, RecursionError) as error:  # a control character; brackets a thousand deep
        raise InputError(f"{source}: not YAML ({first_line(error)}); {_MEND_YAML}") from None


@cache
def _yaml_loader(long: bool) -> Any:
    """PyYAML's safe loader, which tells the line, too, of a value that it takes for what it cannot be, and of a key that is
    there already.
    """
    import yaml

    safe: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader) if long else yaml.SafeLoader

    def construct_object(loader: Any, node: Any, deep: bool = False) -> Any:
        try:
            return safe.construct_object(loader, node, deep)
        except ValueError as error:  # 2026-13-45 has the look of a date
            raise yaml.constructor.ConstructorError(None, None, first_line(error), node.start_mark) from None

    def construct_mapping(loader: Any, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value} for the second time", key.start_mark)
            seen.add((key.tag, key.value) if isinstance(key, yaml.ScalarNode) else None)
        return safe.construct_mapping(loader, node, deep)

    return type("Loader", (safe,), {"construct_object": construct_object, "construct_mapping": construct_mapping})


def parse_json(text: str, **how: Any) -> Any:
    """``json.loads`` for texts of others.

    :raises ValueError: for a text that is not JSON.
    :raises RecursionError: for brackets 500 deep. In Python 3.13 the parser itself may go on to the end of the stack,
        which may end the process.
    """
    if text.count("[") + text.count("{") > _DEEPEST:
        depth = 0
        for bracket in _BRACKET.findall(_JSON_STRING.sub("", text)):
            depth += 1 if bracket in "[{" else -1
            if depth > _DEEPEST:
                raise RecursionError(f"brackets {_DEEPEST} deep")
    return json.loads(text, **how)


def read_object(path: Path, fix: str) -> dict[str, Any]:
    """The JSON object that a file holds.

    :param fix: what a message advises.
    :raises InputError: if it cannot be read, or holds none.
    """
    try:
        found = parse_json(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {fix}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({first_line(error)}); {fix}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path}: not a JSON object; {fix}")
    return found
