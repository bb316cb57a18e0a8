"""What cannot be is said in one sentence, and soon."""

from __future__ import annotations

import importlib.util
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from come.cli import main
from come.cluster import check_reachable, drive
from come.cluster.connect import _sentence
from come.cluster.crew import Crew
from come.cluster.worker import missing_here
from come.errors import ComeError
from come.request import RunConfig
from come.runs import cluster_target, list_runs
from come.runs.cluster_target import ClusterTarget
from come.runs.process import claim
from come.runs.state import identity
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


def test_ray_without_its_client(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name == "grpc" else object())
    with pytest.raises(ComeError, match="need Ray's client"):
        check("ray://127.0.0.1:1")


@pytest.mark.parametrize("text", ["ray://127.0.0.1:1", "127.0.0.1:1", "ray://no-such-host.invalid:10001"])
def test_nothing_at_the_address(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with_ray(monkeypatch)
    with pytest.raises(ComeError, match="There is no Ray at ") as raised:
        check(text)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH\r\n"])
def test_something_else_at_the_address(
    answer: bytes | None, listening: Callable[[bytes | None], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with_ray(monkeypatch)
    with pytest.raises(ComeError, match="Ray"):
        check(f"ray://127.0.0.1:{listening(answer)}")


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


class Rays:
    """As much of Ray as tells how a worker came to its end."""

    class exceptions:
        class RayActorError(Exception):
            pass

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0, "GPU": 4.0}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("error raised in its creation task:\nModuleNotFoundError: No module named 'come'", "Python package come"),
        ("error raised in its creation task:\nAttributeError: no Worker", r"be started \(AttributeError: no Worker\)"),
    ],
)
def test_a_worker_without_come_ends_the_runs(words: str, told: str, new_run: Create) -> None:
    run, place = new_run(), cluster_target("head:6379")
    assert place is not None
    claim(run, place.text)
    crew = Crew(Rays(), place, [run])
    crew._refused(Rays.exceptions.RayActorError(words))
    assert run.state().status == "failed" and re.search(told, run.state().error) and crew.over


@pytest.mark.parametrize(
    ("where", "device", "gpus"),
    [("a:1", "auto", 1), ("a:1", "cpu", 0), ("a:1?gpus=0.5", "auto", 0.5), ("a:1?gpus=0", "cuda", 0)],
)
def test_a_run_gets_a_gpu_where_there_is_one(where: str, device: str, gpus: float, new_run: Create) -> None:
    place = cluster_target(where)
    assert place is not None
    assert Crew(Rays(), place, [new_run(device=device)]).gpus == gpus


def test_a_lost_worker_is_replaced_so_often_and_no_more(new_run: Create) -> None:
    first, second, place = new_run(), new_run(), cluster_target("head:6379?retries=1")
    assert place is not None
    for run in (first, second):
        claim(run, place.text)
    crew = Crew(Rays(), place, [first, second])
    second.update(status="running")
    for _ in range(2):
        assert second.state().active
        crew._lost(Exception("killed"))
    assert [run.written_state().status for run in (first, second)] == ["queued", "failed"]
    assert "was killed 2 times" in second.state().error and not crew.over


def test_a_run_that_was_resumed_is_left_to_the_process_that_claimed_it(new_run: Create) -> None:
    """Between the end of a cancelled run and the end of the process that saw to it, the run may be resumed."""
    run, place = new_run(), cluster_target("head:6379")
    assert place is not None
    claim(run, place.text)
    crew = Crew(Rays(), place, [run])
    run.update(status="cancelled")
    run.update(status="queued", **identity(os.getppid()))
    crew._hire()  # these Rays have no workers
    assert crew.over and run.written_state().status == "queued"


def test_a_lost_cluster_fails_the_runs_that_are_still_this_process_own(
    new_run: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, resumed, place = new_run(), new_run(), cluster_target("head:6379")
    assert place is not None
    for run in (ours, resumed):
        claim(run, place.text)

    @contextmanager
    def lost(_: ClusterTarget) -> Iterator[Any]:
        resumed.update(status="queued", **identity(os.getppid()))
        raise ConnectionError("the head is gone")
        yield

    monkeypatch.setattr(drive, "connected", lost)
    with pytest.raises(ComeError, match=r"at head:6379 was lost \(ConnectionError: the head is gone\)"):
        drive._drive(place, [ours, resumed], None)
    assert [run.written_state().status for run in (ours, resumed)] == ["failed", "queued"]
    assert "was lost" in ours.written_state().error


def test_a_worker_without_the_model_says_which_and_where(asked: dict[str, Any], tmp_path: Path) -> None:
    assert missing_here(RunConfig(**asked)) is None
    assert missing_here(RunConfig()) is None  # bundled things and names of the hub are the worker's own to find
    for field, what in (("model", "model"), ("text", "text"), ("evaluation_text", "text"), ("recover_text", "text")):
        gone = str(tmp_path / "gone")
        error = missing_here(RunConfig(**{**asked, field: gone}))
        assert error is not None
        assert error.what == f"The worker {socket.gethostname()} does not have the run's {what} {gone}."
