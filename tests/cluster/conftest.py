"""A real Ray cluster on this machine: one node with two CPUs, so two workers at a time."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from come.runs import Run
from scripts.serving import free_port
from tests.runs.conftest import asked, folders, model, new_run, text  # noqa: F401 - the same runs as there


@dataclass(frozen=True)
class Cluster:
    """Its two addresses, each with the port of its job server as a setting, and the process that started it."""

    address: str
    client: str
    pid: int

    def workers(self, words: str) -> list[int]:
        """The process ids of the jobs and workers with these words in their command line (Ray's titles are there)."""
        found = []
        for process in psutil.Process(self.pid).children(recursive=True):
            try:
                if any(words in word for word in process.cmdline()):
                    found.append(process.pid)
            except psutil.Error:
                continue
        return found


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    with started() as found:
        yield found


@contextmanager
def started() -> Iterator[Cluster]:
    """A cluster of one head. Skips the test where Ray is not installed."""
    for package in ("ray", "grpc", "aiohttp_cors"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs Ray with its job server: pip install -r requirements-ray.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token in this user's home decides
        yield from _head()


def _head() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path must be short
    port, client, jobs = free_port(), free_port(), free_port()
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    command += ["--node-ip-address=127.0.0.1", f"--ray-client-server-port={client}", "--num-cpus=2", "--num-gpus=0"]
    command += [f"--dashboard-port={jobs}", f"--dashboard-agent-listen-port={free_port()}"]
    command += [f"--temp-dir={folder}", "--object-store-memory=200000000", "--disable-usage-stats"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # as in an activated environment
    home = {"OMP_NUM_THREADS": "1", "COME_HOME": str(folder / "home"), "PATH": path, "PYTHONPATH": ""}
    with (folder / "out").open("wb") as out:
        head = subprocess.Popen(command, env={**os.environ, **home}, stdout=out, stderr=out, start_new_session=True)
    try:
        wait_until(lambda: "Ray runtime started" in (folder / "out").read_text() or head.poll() is not None)
        assert head.poll() is None, (folder / "out").read_text()
        wait_until(lambda: _answers(jobs))
        yield Cluster(f"127.0.0.1:{port}?jobs={jobs}", f"ray://127.0.0.1:{client}?jobs={jobs}", head.pid)
    finally:
        _end(head)
        shutil.rmtree(folder, ignore_errors=True)


def wait_until(condition: Callable[[], object], run: Run | None = None, seconds: float = 480) -> None:
    """A generous wait: it ends a hanging test, it judges no time."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, run and f"{run.state()}\n{run.log()}\n{run.events()[-3:]}"
        time.sleep(0.02)


def _answers(port: int) -> bool:
    """Whether the job server listens: it starts after the rest."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _end(started: subprocess.Popen[bytes]) -> None:
    """End the cluster, whose processes are all of one session, and see that nothing of it stays."""
    started.terminate()
    try:
        started.wait(45)
    except subprocess.TimeoutExpired:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait(10)
