"""A sweep as one thing: its name, its state, what is left, its means over seeds."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import come.runs
from come.report import sweeps
from come.runs.state import identity
from tests.app import synthetic


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def the_sweep(runs: Path) -> sweeps.SweepState:
    (found,) = sweeps.sweeps(come.runs.list_runs(runs))
    return found


def test_a_finished_sweep_and_its_means(runs: Path) -> None:
    synthetic.sweep(runs, ("come", "shortgpt"), (27, 24), (0, 1, 2), measure=("ppl",))
    found = the_sweep(runs)
    assert found.name == "CoMe and ShortGPT at 27 and 24 layers, 3 seeds"
    assert found.status == "done" and len(found.done) == len(found.cells) == 12
    assert not found.active and not found.stopped
    lines = sweeps.means(found.cells)
    assert [line["Layers"] for line in lines] == [27, 27, 24, 24]
    held = [cell.perplexity or 0 for cell in found.cells if cell.series == "CoMe" and cell.layers == 27]
    mine = next(line for line in lines if line["Method"] == "CoMe" and line["Layers"] == 27)
    assert mine["Perplexity, mean"] == pytest.approx(sum(held) / 3) and mine["Spread"] > 0 and mine["Seeds"] == 3
    assert {row["Seed"] for row in sweeps.rows(found.cells)} == {0, 1, 2}


def test_a_sweep_at_work_is_running(runs: Path) -> None:
    done, at_work, waiting, other = synthetic.sweep(runs, ("come", "shortgpt"), (27, 24), measure=("ppl",))
    now = time.time()
    done.update(started=100.0, finished=160.0)
    at_work.update(status="running", started=now - 20, finished=None, **identity(os.getpid()))
    for run in (waiting, other):
        run.update(status="queued", finished=None, created=now, **identity(os.getpid()))
    found = the_sweep(runs)
    assert found.status == "running" and len(found.active) == 3


def test_a_visitors_name_and_runs_of_no_sweep(runs: Path) -> None:
    figures = synthetic.results_of("come", 27, 0, ("ppl",))
    synthetic.write(runs, "0001", figures, "come", 27, name="mine", sweep="a")
    synthetic.write(runs, "0002", figures, "sleb", 27, name="mine · sleb", sweep="a")
    synthetic.write(runs, "0003", figures, "come", 24)
    synthetic.write(runs, "0004", figures, "come", 24, sweep="of one run")
    assert the_sweep(runs).name == "mine"


def test_what_ended_badly_goes_on_in_one_process(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = synthetic.sweep(runs, ("come", "shortgpt", "sleb"), (27,), measure=("ppl",))
    launched: list[str] = []
    monkeypatch.setattr("come.runs.process.launch", lambda *runs, **_: launched.extend(run.id for run in runs))
    with pytest.raises(come.ComeError, match="No run of this sweep can go on"):
        come.runs.resume_all(made)
    made[0].update(status="cancelled")
    made[2].update(status="failed")
    come.runs.resume_all(made)
    assert launched == [made[0].id, made[2].id]
