"""Writing a text file whole or not at all."""

import gzip
import os
import re
import sys
import tempfile
from collections.abc import Iterable

from qpeft_rerank.errors import InputError
from qpeft_rerank.files import replacing, temporary_name

#: A job's flags that name what it reads, each with the value given.
Inputs = Iterable[tuple[str, str | None]]

_STDOUT_CLOSED = "stdout is closed; name a file"
# What is read in the folder of a model, an adapter or a Lucene index. Other files may be beside them.
_READ_IN_FOLDERS = re.compile(r"\.(json|safetensors|bin|model|txt|jinja)$|^segments_|^_\w+\.\w+$")


def write_lines(path: str, lines: Iterable[str], overwrite: bool = True) -> None:
    """Write ``lines`` (each with its line end) to ``path`` as UTF-8; ``-`` is standard output.

    A regular file appears only when it is complete: a temporary file in the same directory is
    renamed over it, so a reader or a crash never sees half of it; the next writer takes what a crash
    left of that. A name that ends in ``.gz`` is compressed, the same lines always to the same bytes.
    :class:`InputError` where the place cannot be written, or another process is writing it.

    :param overwrite: whether to replace a file that has come to be there since the command looked.
    """
    if path == "-":
        _check_stdout()
        sys.stdout.writelines(lines)
        sys.stdout.flush()
        return
    try:
        with replacing(path) as target:
            # From now on nobody else writes it; the first line may be long in coming.
            if not overwrite:
                check_output(path, overwrite)
            if path.endswith(".gz"):
                # No name and no time inside: equal runs give equal files.
                with gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0) as packed:
                    packed.writelines(line.encode() for line in lines)
            else:
                target.writelines(line.encode() for line in lines)
    except BrokenPipeError:
        raise  # a closed pipe is no fault; console.run ends quietly
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); choose another place or create the directory"
        ) from None


def _check_stdout() -> None:
    if sys.stdout is None:
        raise InputError(_STDOUT_CLOSED)


def check_output(path: str, overwrite: bool, flag: str = "--output", inputs: Inputs = ()) -> None:
    """Refuse an output that exists or cannot be written, before any work is done for it.

    :param inputs: what the job reads, which ``overwrite`` does not allow to be replaced.
    """
    fault = input_fault(path, inputs) or output_fault(path, overwrite)
    if fault:
        raise refusal(flag, path, fault)


def refusal(flag: str, path: str, fault: str) -> InputError:
    """The error that says why an output may not be written."""
    return InputError(fault if fault == _STDOUT_CLOSED else f"{flag} {path}: {fault}")


def input_fault(path: str, inputs: Inputs) -> str | None:
    """Why an output may not go to a file that its own job reads, if it is one; links are followed.

    :param inputs: flags with the values given: files, folders of a model, an adapter or an index, or names.
    """
    if not os.path.isfile(path):
        return None
    place = os.path.realpath(path)
    for flag, given in inputs:
        if given is None or not os.path.exists(given):
            continue
        source = os.path.realpath(given)
        within = os.path.dirname(place) == source and _READ_IN_FOLDERS.search(os.path.basename(place))
        if place == source or within:
            return f"is an input of this job ({flag}); name another file"
    return None


def output_fault(path: str, overwrite: bool) -> str | None:
    """Why an output cannot be written, and what helps; None if it can be."""
    if path == "-":
        return _STDOUT_CLOSED if sys.stdout is None else None
    parent = os.path.dirname(os.path.realpath(path))
    if os.path.isdir(path) or os.path.basename(path) in ("", ".", ".."):
        return "is a folder; name a file in it"
    if os.path.isfile(path) and not overwrite:
        return "exists; add --overwrite to replace it, or name another file"
    if os.path.exists(path) and not os.path.isfile(path):
        # A device or a pipe such as /dev/stdout is written to directly.
        return None if os.access(path, os.W_OK) else "cannot be written; name another file"
    if not os.path.isdir(parent):
        return f"the folder {parent} does not exist; create it first"
    try:
        # Tried, not asked: permissions say nothing of read-only file systems, nor to root.
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError:
        return f"the folder {parent} cannot be written; name another"
    try:
        os.lstat(temporary_name(path))
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"cannot be written ({error.strerror}); choose a shorter name"
    return None
