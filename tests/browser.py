"""Chromium without a screen, and a proxy that notes what it asks for."""

import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

# A file and a window's width to the DOM and the first line of every request.
Browse = Callable[..., tuple[str, list[str]]]


class Proxy:
    """Takes every request that a browser makes, notes it, and answers none."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(2)
                try:
                    request = connection.recv(4096).decode("latin-1").split("\r\n")[0]
                except OSError:
                    request = "?"
                # The browser itself asks its maker for the time and the like, whatever it shows.
                if not re.search(r"\.(google|googleapis|gvt1)\.com\b", request):
                    self.asked.append(request)

    def close(self) -> None:
        self._server.close()


def browser(folder: Path) -> Iterator[Browse]:
    """The body of a fixture that gives a :data:`Browse`; its profiles lie in ``folder``."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium here; on Debian: apt-get install chromium")
    proxies: list[Proxy] = []

    def dump(path: Path, width: int = 1200) -> tuple[str, list[str]]:
        proxy = Proxy()
        proxies.append(proxy)
        flags = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
        flags += f" --disable-component-update --disable-sync --dump-dom --window-size={width},900"
        flags += f" --proxy-server=127.0.0.1:{proxy.port} --user-data-dir={folder / f'profile{len(proxies)}'}"
        done = subprocess.run([chromium, *flags.split(), path.as_uri()], capture_output=True, timeout=240, check=True)
        return done.stdout.decode("utf-8"), proxy.asked

    yield dump
    for proxy in proxies:
        proxy.close()
