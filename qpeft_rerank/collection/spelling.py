"""Names of files as Java reads them."""

import codecs
import locale
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


def environment() -> dict[str, str]:
    """Variables that have Java spell names of files as Python does.

    Where ``LC_ALL`` is C, or a locale that is not installed, Python takes them for UTF-8 and Java for ASCII.
    """
    theirs, ours = (codecs.lookup(name).name for name in (locale.getencoding(), sys.getfilesystemencoding()))
    return {"LC_ALL": "C.UTF-8"} if sys.platform != "win32" and theirs != ours == "utf-8" else {}


@contextmanager
def as_python_spells() -> Iterator[None]:
    """Within the block, :func:`environment` is this process's own, for a Java that is started in it."""
    before = {name: os.environ.get(name) for name in environment()}
    os.environ.update(environment())
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
