"""The side job that searches how few layers sequences need: what it leaves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from come.request import RunConfig
from come.runs import create, execute
from come.runs.layers_needed import read
from come.serving import layers_needed


@pytest.mark.slow
def test_a_job_searches_and_tells(
    folders: dict[str, Path], text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    asked = RunConfig(kind="analyze", model=str(folders["llama"]), text=str(text), n_tokens=192, seq_len=64)
    run = create(asked)
    execute(run)
    assert layers_needed.searching(run).status == "none"
    layers_needed.start(run, 0.1, 6, 60.0)
    until = time.monotonic() + 120  # judges nothing, ends a test that hangs
    while layers_needed.searching(run).status == "working" and time.monotonic() < until:
        time.sleep(0.1)
    job = layers_needed.searching(run)
    assert (job.status, job.values["sequences"]) == ("done", 3)
    (search,) = read(run, 6).values()
    assert (search.tolerance, search.passes, search.tokens, len(search.found)) == (0.1, 6.0, 64, 3)
