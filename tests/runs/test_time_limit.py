"""A run that has worked as long as it may is stopped, says why, keeps what it has, and does not go on."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from come.errors import ComeError
from come.runs import Run, execute, launch, resume
from tests.runs.conftest import Create
from tests.runs.test_process import ended, wait_until

LONG = {"method": "sleb", "target_layers": 1, "n_tokens": 16_384, "evaluate": [], "keep_model": False}


def test_a_run_is_stopped_when_its_time_is_up(new_run: Create) -> None:
    run = new_run(**LONG)
    run.update(seconds_at_most=0.5)
    with pytest.raises(KeyboardInterrupt):
        execute(run)
    state = run.state()
    assert state.status == "cancelled" and state.seconds_worked >= 0.5
    assert "as long as a run may take here" in state.error and state.hint
    with pytest.raises(ComeError, match="as long as a run may take here"):
        resume(run)
    assert run.state().status == "cancelled"


@pytest.mark.slow
def test_what_it_has_is_kept_and_what_is_left_of_its_time_it_gets(new_run: Create) -> None:
    run = new_run(evaluate=[], keep_model=False)
    run.update(seconds_at_most=3600.0)
    steps: list[str] = []

    def stop_later(event: object) -> None:
        if (run.path / "plan.json").exists():
            steps.append("plan")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute(run, stop_later)
    worked = run.state().seconds_worked
    assert 0 < worked < 3600 and (run.path / "plan.json").exists() and steps
    execute(run)
    assert run.state().status == "done" and run.state().seconds_worked > worked


def test_runs_without_a_bound_are_let_alone(new_run: Create) -> None:
    run = new_run(evaluate=[], keep_model=False)
    execute(run)
    assert run.state().seconds_worked == 0 and run.state().seconds_at_most is None


@pytest.mark.slow
def test_of_a_sweep_the_others_go_on(new_run: Create) -> None:
    long, short = new_run(**LONG, sweep="both"), new_run(evaluate=[], keep_model=False, sweep="both")
    long.update(seconds_at_most=1.0)
    launch(long, short)
    wait_until(ended(short), short)
    assert (long.state().status, short.state().status) == ("cancelled", "done"), short.log()
    assert "as long as a run may take here" in long.state().error


STUBBORN = """
import sys, time
from pathlib import Path
from come.runs import Run, pipeline, execute, time_limit
time_limit.PATIENCE = 1.0
def work(*_):
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("no", flush=True)
pipeline.work = work
execute(Run(Path(sys.argv[1])))
"""


@pytest.mark.slow
def test_work_that_does_not_let_itself_be_interrupted_is_killed(new_run: Create) -> None:
    run = new_run(evaluate=[], keep_model=False)
    run.update(seconds_at_most=0.5)
    child = subprocess.Popen([sys.executable, "-c", STUBBORN, str(run.path)], start_new_session=True)
    assert child.wait(120) == -9
    state = Run(run.path).state()
    assert state.status == "cancelled" and "as long as a run may take here" in state.error
    assert not psutil.pid_exists(child.pid) or os.getpid() != child.pid
    assert state.finished is not None and state.finished <= time.time()
