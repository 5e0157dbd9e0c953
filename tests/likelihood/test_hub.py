"""Whatever stops a download from the hub is told in one line."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

COMMIT = "a" * 40
LISTED = {"id": "someone/adapter", "sha": COMMIT, "siblings": [{"rfilename": "adapter_config.json"}]}
TREE = [{"type": "file", "path": "adapter_config.json", "size": 1000, "oid": "b" * 40}]
# The hub's library waits between its attempts.
FETCH = """
import time
time.sleep = lambda seconds: None
from qpeft_rerank.adapters.find import find_adapter
from qpeft_rerank.errors import InputError
try:
    find_adapter("someone/adapter")
except InputError as error:
    print(error)
"""


class BreakingOff(BaseHTTPRequestHandler):
    """A hub that tells of a file, and closes the connection after the file's first bytes."""

    def log_message(self, *of: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.send_response(200)
        for name, value in (("X-Repo-Commit", COMMIT), ("ETag", '"x"'), ("Content-Length", "1000")):
            self.send_header(name, value)
        self.end_headers()

    def do_GET(self) -> None:
        if "/api/models/" not in self.path:
            self.do_HEAD()
            self.wfile.write(b"{")
            return
        body = json.dumps(TREE if "/tree/" in self.path else LISTED).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), BreakingOff) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_download_that_breaks_off(address: str, tmp_path: Path) -> None:
    settings = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    cache = {"HF_HUB_CACHE": str(tmp_path / "hub"), "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", FETCH],
        env={**os.environ, **settings, **cache},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    (said,) = done.stdout.splitlines()
    assert said.startswith("adapter 'someone/adapter' cannot be fetched: ")
    assert "Traceback" not in done.stderr
