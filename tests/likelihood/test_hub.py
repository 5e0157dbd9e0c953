"""What is fetched from the hub; whatever stops a download is told in one line."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

COMMIT = "a" * 40
FILES = ("config.json", "model.safetensors", "consolidated.safetensors", "original/params.json", "README.md")
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


class Serving(BreakingOff):
    """A hub that has a model as Mistral's are: its weights twice, in two layouts."""

    def do_HEAD(self) -> None:
        self._send(b"{}", ETag=f'"{self.path.rpartition("/")[2]}"')

    def do_GET(self) -> None:
        if "/api/models/" not in self.path:
            self.do_HEAD()
        elif "/tree/" in self.path:
            self._send(
                json.dumps([{"type": "file", "path": name, "size": 2, "oid": "b" * 40} for name in FILES]).encode()
            )
        else:
            self._send(json.dumps({"id": "a/b", "sha": COMMIT, "siblings": [{"rfilename": x} for x in FILES]}).encode())

    def _send(self, body: bytes, **more: str) -> None:
        self.send_response(200)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(body)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


def _asked(hub: type[BaseHTTPRequestHandler], code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    """Run code that finds this hub on this machine, and nothing in its cache."""
    with ThreadingHTTPServer(("127.0.0.1", 0), hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        settings = {
            "HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}",
            "HF_HOME": str(folder),
            "HF_HUB_CACHE": str(folder / "hub"),
            "HF_HUB_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, **settings}, capture_output=True, text=True, timeout=120
        )
        server.shutdown()
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.slow
def test_weights_are_fetched_once(tmp_path: Path) -> None:
    code = "from qpeft_rerank.likelihood.sources import find_model; print(find_model('someone/model').folder)"
    folder = Path(_asked(Serving, code, tmp_path).stdout.strip())
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found == {"config.json", "model.safetensors"}


def test_a_download_that_breaks_off(tmp_path: Path) -> None:
    done = _asked(BreakingOff, FETCH, tmp_path)
    (said,) = done.stdout.splitlines()
    assert said.startswith("adapter 'someone/adapter' cannot be fetched: ")
    assert "Traceback" not in done.stderr
