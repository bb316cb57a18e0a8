"""A stub of the hub's endpoints, as its library asks for them when a model is sent: what arrives is kept."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import huggingface_hub
import pytest

TOKEN = "hf_SecretOfTheTest"
COMMIT = "c" * 40


@dataclass
class Commit:
    """What one commit brought: its branch, its first line and its files."""

    branch: str
    summary: str
    files: dict[str, bytes]


@dataclass
class StubHub:
    """What a hub has been told.

    Attributes:
        refuses: the status to answer requests with whose path has this in it.
        repos: those that are there, and whether they are private.
        stored: large files, by their hash; a commit takes its own from here. Of those that came over Xet, in pieces of
            so many bytes together, it has the hash alone.
        with_token, without: the paths of the requests that carried the token in their header, and of the others.
        elsewhere: what of a request other than that header held the token.
    """

    address: str = ""
    refuses: dict[str, int] = field(default_factory=dict)
    repos: dict[str, bool] = field(default_factory=dict)
    branches: list[str] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)
    puts: int = 0
    pieces: int = 0
    commits: list[Commit] = field(default_factory=list)
    with_token: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)
    elsewhere: list[str] = field(default_factory=list)

    @property
    def asked(self) -> int:
        """How many requests came."""
        return len(self.with_token) + len(self.without)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        """A status and a document."""
        if refused := next((status for part, status in self.refuses.items() if part in path), None):
            return refused, {"error": f"No, says the hub, to {TOKEN}"}
        if method == "PUT":
            self.stored[path.rpartition("/")[2]] = body
            self.puts += 1
            return 200, {}
        if path.startswith("/xet/"):
            return self._xet(path, body)
        told = json.loads(body) if body and "/commit/" not in path else {}
        owner, name, what, rest = (*path.removeprefix("/api/models/").split("/"), "", "", "", "")[:4]
        repo = f"{owner}/{name}"
        if path == "/api/repos/create":
            made = f"{told['organization']}/{told['name']}"
            if made in self.repos:
                return 409, {"error": "You already created this model repo", "url": f"{self.address}/{made}"}
            self.repos[made] = told.get("visibility") == "private"
            return 200, {"url": f"{self.address}/{made}"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        if path.endswith("/info/lfs/objects/batch"):
            return 200, {"objects": [self._place(each) for each in told["objects"]]}
        if repo not in self.repos:
            return 404, {"error": f"There is no {repo}"}
        if what == "preupload":
            return 200, {"files": [self._mode(each) for each in told["files"]]}
        if what == "branch":
            self.branches.append(rest)
            return 200, {}
        if what == "xet-write-token":
            return 200, {"casUrl": f"{self.address}/xet", "accessToken": "of-the-storage", "exp": 4_102_444_800}
        if what == "commit":
            self.commits.append(self._commit(rest, body))
            return 200, {"commitUrl": f"{self.address}/{repo}/commit/{COMMIT}", "commitOid": COMMIT}
        return 200, {"id": repo, "sha": COMMIT, "private": self.repos[repo], "siblings": []}

    def _place(self, wanted: dict[str, Any]) -> dict[str, Any]:
        """Where to put a large file; nowhere if it is there."""
        if wanted["oid"] in self.stored:
            return wanted
        return {**wanted, "actions": {"upload": {"href": f"{self.address}/store/{wanted['oid']}"}}}

    def _xet(self, path: str, body: bytes) -> tuple[int, Any]:
        """The storage that the hub's library prefers: it takes pieces of files, whose order it is told in shards."""
        if "/xorbs/" in path:
            self.pieces += len(body)
            return 200, {"was_inserted": True}
        return (200, {"type": "result", "result": 1, "shard_hash": "0" * 64}) if "/shards" in path else (404, {})

    def _mode(self, told: dict[str, Any]) -> dict[str, Any]:
        mode = "lfs" if told["path"].endswith(".safetensors") else "regular"
        return {"path": told["path"], "uploadMode": mode, "shouldIgnore": False}

    def _commit(self, branch: str, body: bytes) -> Commit:
        head, *lines = [json.loads(line) for line in body.splitlines()]
        files = {}
        for line in lines:
            value = line["value"]
            large = line["key"] == "lfsFile"
            content = (
                self.stored.get(value["oid"], value["oid"].encode()) if large else base64.b64decode(value["content"])
            )
            files[value["path"]] = content
        return Commit(branch, head["value"]["summary"], files)


def _handler(hub: StubHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _any(self) -> None:
            path = self.path.partition("?")[0]
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                body = b"".join(self._chunks())
            carried = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            (hub.with_token if carried else hub.without).append(path)
            others = [f"{name}: {value}" for name, value in self.headers.items() if name.lower() != "authorization"]
            hub.elsewhere += [each for each in (self.path, body.decode("latin-1"), *others) if TOKEN in each]
            status, document = hub.answer(self.command, path, body)
            answer = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_POST = do_PUT = _any

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextmanager
def stub_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    """A hub on this machine, to which the library of this process leads; large files go to it over LFS."""
    hub = StubHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.address)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
    huggingface_hub.close_session()  # one of before may go through a proxy
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield hub
    server.shutdown()
    server.server_close()
    huggingface_hub.close_session()
