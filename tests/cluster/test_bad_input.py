"""What cannot be is said in one sentence, and soon."""

from __future__ import annotations

import importlib.util
import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from come.cli import main
from come.cluster import check_reachable, connect
from come.cluster.connect import _sentence, connected
from come.cluster.job import missing_here
from come.errors import ComeError
from come.request import RunConfig
from come.runs import cluster_target, list_runs
from tests.runs.conftest import Create

RAYS = "Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n    Python: 3.10.4\nThis process on Ray Client was started with:\n    Ray: 2.60.0\n    Python: 3.11.2\n"  # fmt: skip  # noqa: E501


@pytest.fixture
def listening() -> Iterator[Callable[[bytes | None], int]]:
    """Starts something that is not Ray; what it answers: nothing at all where that is None."""
    made: list[socket.socket] = []

    def start(answer: bytes | None) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        made.append(server)

        def serve() -> None:
            connection, _ = server.accept()
            made.append(connection)
            connection.recv(100)
            if answer is not None:
                connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for each in made:
        each.close()


def without(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == package else find(name, *more))


def check(text: str) -> None:
    place = cluster_target(text)
    assert place is not None
    check_reachable(place)


def reply(status: str, content: dict[str, str]) -> bytes:
    body = json.dumps(content)
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def with_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: object())


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_no_ray_installed(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], asked: dict[str, Any]
) -> None:
    without(monkeypatch, "ray")
    arguments = ["--model", asked["model"], "--text", asked["text"], "--method", "come", "--target-layers", "4"]
    assert main([command, *arguments, "--on", "ray://head:10001"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Ray is not installed here") and told.count("\n") == 1 and "requirements-ray.txt" in told
    assert list_runs() == []  # nothing was made


def test_ray_without_its_job_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "aiohttp" else object())
    with pytest.raises(ComeError, match="Ray is not installed here"):
        check("ray://127.0.0.1:1")


@pytest.mark.parametrize("text", ["ray://127.0.0.1:1?jobs=1", "127.0.0.1:1?jobs=1", "http://no-such.invalid:8265"])
def test_nothing_at_the_address(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_ray(monkeypatch)
    with pytest.raises(ComeError, match="There is no Ray job server at http://") as raised:
        check(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "answer", [None, b"HTTP/1.1 200 OK\r\n\r\n<html>", b"SSH-2.0-OpenSSH\r\n", reply("200 OK", {})]
)
def test_something_else_at_the_address(
    answer: bytes | None, listening: Callable[[bytes | None], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_ray(monkeypatch)
    monkeypatch.setattr(connect, "ANSWER", 1.0)
    with pytest.raises(ComeError, match=r"is not Ray's job server|no Ray job server at"):
        check(f"http://127.0.0.1:{listening(answer)}")


def test_a_job_server_at_the_address(listening: Callable[[bytes | None], int], monkeypatch: pytest.MonkeyPatch) -> None:
    with_ray(monkeypatch)
    check(f"ray://127.0.0.1:10001?jobs={listening(reply('200 OK', {'ray_version': '2.60.0'}))}")


def test_one_that_asks_for_a_token_is_one(
    listening: Callable[[bytes | None], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_ray(monkeypatch)
    check(f"ray://127.0.0.1:10001?jobs={listening(reply('401 Unauthorized', {}))}")


@pytest.mark.parametrize(
    ("words", "address", "told"),
    [
        (RAYS, "ray://head:10001", "has Ray 2.9.0 and Python 3.10.4, this machine has Ray 2.60.0 and Python 3.11.2"),
        ("Could not find any running Ray instance.", "auto", "No Ray cluster runs on this machine"),
        ("No node info found matching attributes", "head:6379", "is not one of the Ray cluster at head:6379"),
        ("InvalidAuthToken: Authentication token is missing", "head:6379", "asks for a token"),
        ("whatever\nelse", "head:6379", r"cannot be connected to \(RuntimeError: whatever else\)"),
    ],
)
def test_rays_own_words_become_ours(words: str, address: str, told: str) -> None:
    place = cluster_target(address)
    assert place is not None
    with pytest.raises(ComeError, match=told) as raised:
        raise _sentence(place, RuntimeError(words))
    assert "\n" not in str(raised.value)


def test_files_cannot_come_back_from_a_job_server_alone(new_run: Create) -> None:
    target = cluster_target("http://head:8265")
    assert target is not None
    with pytest.raises(ComeError, match=r"files=s3://bucket/runs, or Ray's own address"), connected(target):
        pass


def test_a_worker_without_the_model_says_which_and_where(asked: dict[str, Any], tmp_path: Path) -> None:
    assert missing_here(RunConfig(**asked)) is None
    assert missing_here(RunConfig()) is None  # bundled things and names of the hub are the worker's own to find
    for field, what in (("model", "model"), ("text", "text"), ("evaluation_text", "text"), ("recover_text", "text")):
        gone = str(tmp_path / "gone")
        error = missing_here(RunConfig(**{**asked, field: gone}))
        assert error is not None
        assert error.what == f"The worker {socket.gethostname()} does not have the run's {what} {gone}."
