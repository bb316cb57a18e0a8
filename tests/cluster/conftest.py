"""A real Ray cluster on this machine: one node with two CPUs, so two workers at a time; or two nodes of fewer."""

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
from typing import Any

import psutil
import pytest

from come.runs import Run
from scripts.serving import free_port
from tests.runs.conftest import asked, folders, model, new_run, text  # noqa: F401 - the same runs as there


@dataclass(frozen=True)
class Cluster:
    """Its two addresses, each with the port of its job server as a setting; the process that started it; its files."""

    address: str
    client: str
    pid: int
    folder: Path

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
def started(cpus: int = 2) -> Iterator[Cluster]:
    """A cluster of one head with so many CPUs. Skips the test where Ray is not installed."""
    for package in ("ray", "grpc", "aiohttp_cors"):
        if importlib.util.find_spec(package) is None:
            pytest.skip("needs Ray with its job server: pip install -r requirements-ray.txt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token in this user's home decides
        yield from _head(cpus)


@contextmanager
def second_node(cluster: Cluster) -> Iterator[subprocess.Popen[bytes]]:
    """Another node of a cluster, with one CPU: its process leads a group of all that is of it."""
    address = cluster.address.partition("?")[0]
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={address}"]
    command += ["--node-ip-address=127.0.0.1", "--num-cpus=1", "--num-gpus=0", "--disable-usage-stats"]
    command += [f"--dashboard-agent-listen-port={free_port()}", "--object-store-memory=100000000"]
    node = subprocess.Popen(command, env=_environment(cluster.folder), start_new_session=True, **_QUIET)
    try:
        yield node
    finally:
        _end(node)


_QUIET: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def _environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # as in an activated environment
    return {
        **os.environ, "OMP_NUM_THREADS": "1", "COME_HOME": str(folder / "home"), "PATH": path, "PYTHONPATH": "",
    }  # fmt: skip


def _head(cpus: int) -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path must be short
    port, client, jobs = free_port(), free_port(), free_port()
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}"]
    command += [
        "--node-ip-address=127.0.0.1",
        f"--ray-client-server-port={client}",
        f"--num-cpus={cpus}",
        "--num-gpus=0",
    ]
    command += [f"--dashboard-port={jobs}", f"--dashboard-agent-listen-port={free_port()}"]
    command += [f"--temp-dir={folder}", "--object-store-memory=200000000", "--disable-usage-stats"]
    with (folder / "out").open("wb") as out:
        head = subprocess.Popen(command, env=_environment(folder), stdout=out, stderr=out, start_new_session=True)
    try:
        wait_until(lambda: "Ray runtime started" in (folder / "out").read_text() or head.poll() is not None)
        assert head.poll() is None, (folder / "out").read_text()
        wait_until(lambda: _answers(jobs))
        yield Cluster(f"127.0.0.1:{port}?jobs={jobs}", f"ray://127.0.0.1:{client}?jobs={jobs}", head.pid, folder)
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
