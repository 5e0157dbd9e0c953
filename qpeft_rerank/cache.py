"""Where this package keeps what it makes once and reads often (indexes, converted models)."""

import contextlib
import os
from pathlib import Path

from qpeft_rerank.files import at_home, write_whole


def cache_dir() -> Path:
    """Return the cache folder: ``$QPEFT_RERANK_CACHE``, else ``$XDG_CACHE_HOME/qpeft_rerank``, else under ``~``.

    The folder is not created here; whoever writes into it creates it.

    :raises InputError: if there is no home folder.
    """
    chosen = os.environ.get("QPEFT_RERANK_CACHE")
    if chosen:
        return at_home(chosen).absolute()
    xdg = os.environ.get("XDG_CACHE_HOME")
    base = Path(xdg) if xdg and os.path.isabs(xdg) else at_home("~/.cache")
    return base / "qpeft_rerank"


def keep(path: Path, text: str) -> None:
    """Write a file of the cache whole or not at all, whoever else writes it; not at all where it cannot be written,
    since it only saves making the same again.
    """
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
