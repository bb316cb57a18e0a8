"""The resident process against strangers of its machine, and its address file against whatever stands in it."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from come import processes
from come.errors import ComeError
from come.serving.limits import Limits
from come.serving.resident import address as addresses
from come.serving.resident import client, connection, server
from come.serving.resident.address import Address

ME = os.getpid()


@pytest.fixture
def serving(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Address]:
    """A resident server in a thread of this process, on the loopback interface, where every user could ask."""
    monkeypatch.setenv("COME_HOME", str(tmp_path / ("long" * 30)))
    monkeypatch.setattr(server, "SECONDS_TO_ASK", 0.5)
    monkeypatch.setattr(server, "SECONDS_TO_SEND", 0.5)
    listening, address = server._listen(addresses.folder())
    addresses.write_address(address)
    running = server.Server(Limits(), address, (ME, processes.start_id(ME)))
    thread = threading.Thread(target=running.run, args=[listening], daemon=True)
    thread.start()
    yield address
    running._http.should_exit = running._http.force_exit = True
    thread.join(20)
    listening.close()
    assert not thread.is_alive()


def said(address: Address, *parts: bytes, pause: float = 0.0, seconds: float = 10.0) -> bytes:
    """What it answers to bytes, until it closes the connection."""
    with socket.create_connection(("127.0.0.1", address.port), timeout=seconds) as open_:
        answer = b""
        try:
            for part in parts:
                open_.sendall(part)
                time.sleep(pause)
            while more := open_.recv(65536):
                answer += more
        except (ConnectionResetError, BrokenPipeError):
            pass
        return answer


def asking(address: Address, body: bytes, secret: str | None = None, length: int | None = None) -> bytes:
    length = len(body) if length is None else length
    bearer = f"Authorization: Bearer {address.secret if secret is None else secret}\r\n"
    return f"POST /status HTTP/1.1\r\nHost: x\r\n{bearer}Content-Length: {length}\r\n\r\n".encode() + body


def test_who_sends_nothing_or_little_is_not_waited_for(serving: Address) -> None:
    for slow in (
        [b""],
        [b"POST /status HTTP/1.1\r\n"],
        [b"POST /status HTTP/1.1\r\nHost: x\r\n", *[b"X-A: b\r\n"] * 40],
    ):
        begun = time.monotonic()
        assert said(serving, *slow, pause=0.05) == b""
        assert time.monotonic() - begun < 5
    unfinished = said(serving, asking(serving, b"{", length=100))  # with the secret, but without the rest
    assert b" 400 " in unfinished.partition(b"\r\n")[0]
    assert said(serving, asking(serving, b"{}")).endswith(b'{"result": {"models": [], "budget": null}}\n\r\n0\r\n\r\n')


def test_no_more_than_headers_are_read_of_strangers(serving: Address) -> None:
    long = b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * (1 << 20)
    assert said(serving, long)[:12] in (b"HTTP/1.1 400", b"")  # nothing, where it hung up first
    sent = 0
    with socket.create_connection(("127.0.0.1", serving.port), timeout=10) as open_:
        open_.sendall(asking(serving, b"", "guessed", length=1 << 40))
        with pytest.raises((ConnectionResetError, BrokenPipeError, ConnectionAbortedError)):
            while sent < 1 << 28:
                sent += open_.send(b"a" * 65536)
    assert sent < 1 << 24, "it has hung up"
    for secret in ("", "guessed", serving.secret[:-1], serving.secret + "x", "é"):
        answer = said(serving, asking(serving, b"{}", secret))
        assert answer.startswith(b"HTTP/1.1 401") and b"connection: close" in answer.lower()


def test_what_is_no_request_is_refused_and_it_goes_on(serving: Address) -> None:
    bodies = [b"[]", b"null", b"", b"{", b"\xff", b"[" * 100_000, b'{"a":' * 50_000, b"1e999", b'{"owner": 1}x']
    for body in bodies:
        assert said(serving, asking(serving, body)).startswith(b"HTTP/1.1 400"), body[:20]
    for raw in (b"\x00" * 100, b"GET\r\n\r\n", b"POST /status HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00" + b"a" * 600):
        said(serving, raw)
    assert said(serving, asking(serving, b"{}")).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "owner",
    [
        *[{"pid": pid, "start_id": "x"} for pid in (-1, 0, 1, True, 10**30, "1", None)],
        {"pid": ME, "start_id": "another boot 1"},
        {"pid": ME, "start_id": "not a number"},
        "all",
        [],
    ],
)
def test_an_owner_that_is_none_neither_ends_it_nor_anybody(serving: Address, owner: Any) -> None:
    for _ in range(2):
        assert said(serving, asking(serving, json.dumps({"owner": owner}).encode())).startswith(b"HTTP/1.1 200")
    time.sleep(2 * server.LOOK_AGAIN if owner == {"pid": -1, "start_id": "x"} else 0)
    assert client.status() is not None


def damaged(good: Address) -> list[bytes]:
    """What else could stand in an address file."""
    plain = asdict(good)

    def but(**values: Any) -> bytes:
        return json.dumps({**plain, **values}).encode()

    pids = [-1, 0, 1, -(10**9), 2**63, 10**400, 1.5, "7", None, True, [], {"a": 1}]
    paths = ["/etc/passwd", "../../socket", "a\0b", "x" * 5000, 7, "/dev/stdin"]
    ports = [-1, 70_000, 0, "80", 8.5, None]
    return [
        *[but(pid=pid) for pid in pids],
        *[but(path=path) for path in paths],
        *[but(port=port) for port in ports],
        *[but(secret=secret) for secret in ("", None, "a" * 101, 7)],
        *[but(start_id=start) for start in ("", None, "a" * 101, 3)],
        but(more=1),
        b"",
        b"null",
        b"[]",
        b"{",
        b"[" * 4000,
        b'{"a":' * 800,
        b"\xff\xfe",
        b"NaN",
        json.dumps(plain).encode() + b" " * 5000,
        json.dumps(plain).encode().replace(b"}", b', "pid": -1}'),
    ]


def test_whatever_its_address_file_says_nobody_is_ended(
    serving: Address, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ended: list[object] = []
    for name in ("kill", "killpg"):
        monkeypatch.setattr(os, name, lambda *who: ended.append(who))
    file = addresses.folder() / addresses.FILE
    kept = tmp_path / "kept"
    kept.write_text("mine")
    for content in damaged(serving):
        file.write_bytes(content)
        found = addresses.read_address()
        assert found is None, content[:80]
        assert connection._known() is None and client.status() is None
        client.stop()
    assert not ended and kept.read_text() == "mine"


def test_what_is_no_file_of_ours_is_not_read(serving: Address, tmp_path: Path) -> None:
    file = addresses.folder() / addresses.FILE
    good = file.read_text()

    def linked() -> None:
        (tmp_path / "elsewhere.json").write_text(good)
        file.symlink_to(tmp_path / "elsewhere.json")

    makers: list[Callable[[], object]] = [linked, lambda: os.mkfifo(file), file.mkdir]
    for make in makers:
        file.unlink(missing_ok=True)
        make()
        begun = time.monotonic()
        assert addresses.read_address() is None
        assert time.monotonic() - begun < 1, "a pipe is not waited for"
    file.rmdir()
    file.write_text(good)
    assert addresses.read_address() == serving


def test_only_the_user_reads_what_it_writes(serving: Address) -> None:
    folder = addresses.folder()
    folder.chmod(0o777)
    assert stat.S_IMODE(addresses.folder().stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / addresses.FILE).stat().st_mode) == 0o600
    assert len(serving.secret) == 32 and serving.secret != replace(serving, secret="x").secret


def test_a_folder_of_somebody_else_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    folder = addresses.folder()
    monkeypatch.setattr(os, "getuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(ComeError, match="belongs to somebody else"):
        addresses.folder()
    monkeypatch.undo()
    monkeypatch.setenv("COME_HOME", str(tmp_path))
    folder.rmdir()
    (tmp_path / "theirs").mkdir()
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(ComeError, match="belongs to somebody else"):
        addresses.folder()


def test_nothing_is_unpickled_in_the_serving_room() -> None:
    root = Path(server.__file__).parents[1]
    unsafe = re.compile(
        r"\b(pickle|marshal|shelve|dill|cloudpickle|torch\.load|eval|exec)\b\s*[.(]|import (pickle|marshal)"
    )
    for file in root.rglob("*.py"):
        assert not unsafe.search(file.read_text("utf-8")), file
