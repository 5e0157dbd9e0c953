"""Where this package keeps what it makes once and reads often (indexes, converted models)."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Return the cache folder: ``$QPEFT_RERANK_CACHE``, else ``$XDG_CACHE_HOME/qpeft_rerank``, else under ``~``.

    The folder is not created here; whoever writes into it creates it.
    """
    chosen = os.environ.get("QPEFT_RERANK_CACHE")
    if chosen:
        return Path(chosen).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME")
    base = Path(xdg) if xdg and os.path.isabs(xdg) else Path.home() / ".cache"
    return base / "qpeft_rerank"
