"""The page served for a while, for the scripts and benchmarks that look at it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.request import urlopen

SECONDS_TO_START = 120


@contextmanager
def served(runs: str | Path, script: str = "app/serve.py") -> Iterator[tuple[str, int]]:
    """Serve the page over a folder of runs until the block ends; gives its address and its process's id.

    Args:
        runs: the folder.
        script: what Streamlit runs; ``app/main.py`` is the page in Streamlit's own document.

    Raises:
        RuntimeError: it does not start.
    """
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "streamlit", "run", script, "--server.headless", "true"]
    command += ["--server.address", "127.0.0.1", "--server.port", str(port)]
    places = os.environ | {"COME_RUNS": str(runs)}
    server = subprocess.Popen(command, env=places, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait(f"{address}/_stcore/health")
        yield address, server.pid
    finally:
        server.terminate()
        server.wait()


def free_port() -> int:
    """A port of this machine that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(address: str) -> None:
    until = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < until:
        with suppress(OSError), urlopen(address, timeout=1):
            return
        time.sleep(0.5)
    raise RuntimeError("the page did not start")
