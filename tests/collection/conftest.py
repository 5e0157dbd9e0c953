"""A loopback web server, and topics as objects."""

import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from qpeft_rerank.trec.topics import Topic, read_topics


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Path]]:
    """Serve a folder: (its URL, the folder to put files into)."""
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder
        server.shutdown()


@pytest.fixture
def topics(tiny_topics: Path) -> dict[str, Topic]:
    return read_topics(str(tiny_topics))
