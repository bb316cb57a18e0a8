"""What is on the hub is judged by the sizes that the hub tells, and by its config, before the rest is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

COMMIT = "a" * 40
SOUND = {"model_type": "llama", "num_hidden_layers": 2, "hidden_size": 32, "num_attention_heads": 4, "vocab_size": 64}
MODELS: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "sound": ({**SOUND, "intermediate_size": 48}, {}),
    "giant": (SOUND, {"tokenizer.json": 500_000_000}),
    "deep": ({**SOUND, "num_hidden_layers": 10**6}, {}),
}
fetched: list[str] = []


class Hub(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        for name, (config, sizes) in MODELS.items():
            told = json.dumps(config).encode()
            if path.startswith(f"/api/models/me/{name}"):
                files = {"config.json": len(told), **sizes}
                siblings = [{"rfilename": each, "size": size} for each, size in files.items()]
                self.answer(json.dumps({"id": f"me/{name}", "sha": COMMIT, "siblings": siblings}).encode())
                return
            if path.startswith(f"/me/{name}/resolve/") and path.endswith("/config.json"):
                self.answer(told)
                return
            if path.startswith(f"/me/{name}/resolve/"):
                fetched.append(path)
        self.send_response(200 if path == "/" else 404)
        self.send_header("Content-Length", "0")
        self.send_header("X-Error-Code", "EntryNotFound")
        self.end_headers()

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        for name, value in (("Content-Length", str(len(body))), ("ETag", f'"{len(body)}"'), ("X-Repo-Commit", COMMIT)):
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def told(address: str, name: str, home: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_HOME": str(home), "NO_PROXY": "*", "no_proxy": "*"}
    for offline in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        environment.pop(offline, None)
    command = [sys.executable, "-m", "come", "models", f"me/{name}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_a_model_on_the_hub_that_lies_is_refused_before_it_is_fetched(address: str, tmp_path: Path) -> None:
    sound = told(address, "sound", tmp_path)
    assert sound.returncode == 0 and "hidden size" in sound.stdout, sound.stderr
    fetched.clear()
    giant = told(address, "giant", tmp_path)
    assert giant.returncode == 2 and "has a tokenizer.json of 477 MiB, and at most 64.0 MiB" in giant.stderr
    deep = told(address, "deep", tmp_path)
    assert deep.returncode == 2 and "says num_hidden_layers 1000000, which no model has" in deep.stderr
    assert not fetched
