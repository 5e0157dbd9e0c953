"""Let Pyserini be imported without a network.

Version 2.4.0 looks two names up in its list of impact indexes while it is being imported, and that list is
on the network: offline, even a local index could not be opened. Here that look-up is answered for the time
of the import, and the list is forgotten afterwards so that it is asked for again when it matters.
"""

import io
import json
import urllib.request
from importlib import import_module
from typing import Any

CATALOGUE = "pyserini.prebuilt_index_info"
_ASKED = ("msmarco-v1-passage.unicoil", "msmarco-v2-passage.unicoil-0shot")


def import_catalogue() -> None:
    """Import Pyserini's list of prebuilt indexes, whatever the network says; errors of other kinds pass."""
    real = urllib.request.urlopen
    failed = False

    def urlopen(*args: Any, **kwargs: Any) -> Any:
        nonlocal failed
        try:
            return real(*args, **kwargs)
        except OSError:
            failed = True
            entry = {"description": "", "filename": "", "urls": [], "md5": "", "size": 0}
            return io.BytesIO(json.dumps([{"name": name, **entry} for name in _ASKED]).encode())

    # Assigned by name, for the module binds whatever is there when it is imported.
    urllib.request.urlopen = urlopen
    try:
        module = import_module(CATALOGUE)
    finally:
        urllib.request.urlopen = real
    if getattr(module, "urlopen", None) is urlopen:
        module.urlopen = real  # type: ignore[attr-defined]
    if failed:
        for value in vars(module).values():
            if hasattr(value, "_info"):
                value._info = None
