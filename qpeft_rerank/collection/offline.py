"""Let Pyserini be imported without a network.

Version 2.4.0 looks two names up in its list of impact indexes while it is being imported, and that list is
on the network: offline, even a local index could not be opened. Here that look-up is answered for the time
of the import, and the list is forgotten afterwards so that it is asked for again when it matters.
"""

import io
import json
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

CATALOGUE = "pyserini.prebuilt_index_info"
_ASKED = ("msmarco-v1-passage.unicoil", "msmarco-v2-passage.unicoil-0shot")


@contextmanager
def answered_offline() -> Iterator[None]:
    """Within the block, a catalogue that cannot be downloaded consists of the two names asked for at import."""
    if CATALOGUE in sys.modules:
        yield
        return
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

    # By assignment, for the module binds whatever stands there when it is imported.
    urllib.request.urlopen = urlopen
    try:
        yield
    finally:
        urllib.request.urlopen = real
        for name, module in list(sys.modules.items()):
            if name.startswith("pyserini") and getattr(module, "urlopen", None) is urlopen:
                module.urlopen = real  # type: ignore[attr-defined]
        if failed and CATALOGUE in sys.modules:
            for value in vars(sys.modules[CATALOGUE]).values():
                if hasattr(value, "_info"):
                    value._info = None
