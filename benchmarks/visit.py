"""A whole first visit on the bundled model, as the page starts it: three runs in processes of their own."""

from __future__ import annotations

import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import psutil

from benchmarks.timing import bundled, forward, markdown, seconds
from come import runs
from come.measurement.calibrate import default_batch_size
from come.request import RunConfig
from scripts.serving import served

REQUESTS = (
    RunConfig(kind="analyze"),
    RunConfig(method="come", target_layers=27),
    RunConfig(method="shortgpt", target_layers=27, keep_model=False),
)


def table() -> str:
    """How long the visit takes in plain forwards over its tokens, and how much memory server and worker take."""
    bundle, tokens = bundled(n_tokens=4096)
    size = default_batch_size(tokens.shape[1])
    trunk = min(seconds(lambda: forward(bundle, tokens, size)) for _ in range(3))
    whole = min(seconds(lambda: forward(bundle, tokens, size, head=True)) for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["COME_RUNS"] = folder
        # No figure measured by an earlier visit may be used, but the model is converted already.
        for figure in (Path(os.environ.get("COME_HOME", Path.home() / ".cache/come")) / "measured").glob("*.json"):
            figure.unlink()
        with served(folder) as (_, server):
            began = time.perf_counter()
            peak = _visit(server)
            taken = time.perf_counter() - began
    columns = ("visit, s", "plain forward, s", "visit / forward", "trunk alone, s", "peak PSS, MiB")
    return markdown(columns, [(taken, whole, taken / whole, trunk, peak >> 20)])


def _visit(server: int) -> int:
    """Queue the runs as the page does, wait for the last, and return the peak of all processes' PSS in bytes."""
    peak = 0
    for request in REQUESTS:
        run = runs.create(request)
        runs.launch(run)
        while (state := run.state()).active:
            peak = max(peak, _pss(server) + (_pss(state.pid) if state.pid else 0))
            time.sleep(0.2)
        assert state.status == "done", state.error
    return peak


def _pss(pid: int) -> int:
    total = 0
    with suppress(psutil.Error):
        process = psutil.Process(pid)
        for each in (process, *process.children(recursive=True)):
            with suppress(psutil.Error):
                total += each.memory_full_info().pss
    return total
