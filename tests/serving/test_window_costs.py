"""The side job that measures windows: what it leaves, that it can be stopped, and that runs come first."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from come.errors import ComeError
from come.request import RunConfig
from come.runs import Run, create, execute
from come.runs.window_costs import read
from come.serving import window_costs


@pytest.fixture
def analysis(folders: dict[str, Path], text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("COME_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COME_RUNS", str(tmp_path / "runs"))
    asked = RunConfig(kind="analyze", model=str(folders["llama"]), text=str(text), n_tokens=512, seq_len=64)
    run = create(asked)
    execute(run)
    return run


def ended(run: Run) -> str:
    """How the job ends; seconds judge nothing, they end a test that hangs."""
    until = time.monotonic() + 120
    while window_costs.measuring(run).status == "working" and time.monotonic() < until:
        time.sleep(0.1)
    return window_costs.measuring(run).status


def test_a_job_measures_and_tells(analysis: Run) -> None:
    assert window_costs.measuring(analysis).status == "none"
    window_costs.start(analysis, [], 60.0, (1, 3))
    assert ended(analysis) == "done" and [cost.window for cost in read(analysis)] == [(1, 3)]
    window_costs.start(analysis, [2, 4], 60.0)
    window_costs.start(analysis, [2, 4], 60.0)  # a second click starts no second one
    assert ended(analysis) == "done"
    assert len(read(analysis)) == 1 + 5 + 3
    assert window_costs.measuring(analysis).values["windows"] == 8


@pytest.mark.slow
def test_a_job_gives_way_to_runs_and_ends_when_asked(analysis: Run) -> None:
    waiting = create(analysis.config)  # nobody has launched it yet
    window_costs.start(analysis, [2], 60.0)
    until = time.monotonic() + 120
    while "run at work" not in window_costs.measuring(analysis).message and time.monotonic() < until:
        time.sleep(0.1)
    assert not read(analysis)
    window_costs.stop(analysis)
    assert ended(analysis) == "done"
    assert not read(analysis) and waiting.state().status == "queued"
    window_costs.start(analysis, [2], 0.0)  # which takes back that it is to end
    assert not (analysis.path / window_costs.STOP).exists()
    window_costs.stop(analysis)
    assert ended(analysis) == "done"


def test_only_a_finished_analysis_is_measured(analysis: Run) -> None:
    with pytest.raises(ComeError, match="is queued"):
        window_costs.start(create(analysis.config), [2], 1.0)
