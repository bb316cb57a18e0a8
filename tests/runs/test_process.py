"""Runs in processes of their own: real ones, really killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from come.errors import ComeError
from come.files import locked_if_free
from come.runs import Run, cancel, delete, execute, launch, process, resume
from come.runs.state import identity
from come.runs.store import QUEUE_LOCK
from come.settings import runs_dir
from tests.runs.conftest import Create

LONG = {"target_layers": 1, "n_tokens": 8192, "evaluate": [], "keep_model": False}


def wait_until(condition: Callable[[], object], run: Run) -> None:
    """A generous wait: it ends a hanging test, it judges no time."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, f"{run.state()}\n{run.log()}"
        time.sleep(0.02)


def has_merged(run: Run) -> Callable[[], bool]:
    return lambda: (run.path / "plan.json").exists()


def ended(run: Run) -> Callable[[], bool]:
    return lambda: not run.state().active


def test_a_run_outlives_whoever_launched_it(new_run: Create) -> None:
    run = new_run(evaluate=[], keep_model=False)
    code = "import sys; from pathlib import Path; from come.runs import Run, launch; launch(Run(Path(sys.argv[1])))"
    subprocess.run([sys.executable, "-c", code, str(run.path)], check=True)
    wait_until(ended(run), run)
    assert run.state().status == "done", run.log()


def test_a_killed_run_is_interrupted_and_resumes_to_the_same_plan(new_run: Create) -> None:
    whole, cut = new_run(**LONG), new_run(**LONG)
    launch(cut)
    with pytest.raises(ComeError, match="already"):
        launch(cut)
    wait_until(has_merged(cut), cut)
    with pytest.raises(ComeError, match="Cancel it first"):
        delete(cut)
    pid = cut.state().pid
    assert pid is not None
    assert os.getpgid(pid) == pid != os.getpgid(0)
    os.kill(pid, signal.SIGKILL)
    wait_until(ended(cut), cut)
    assert cut.state().status == "interrupted"

    resume(cut)
    execute(whole)
    wait_until(ended(cut), cut)
    assert cut.state().status == "done", cut.log()
    assert cut.plan() == whole.plan()
    assert [event["stage"] for event in cut.events()].count("resumed") == 1
    with pytest.raises(ComeError, match="is done"):
        resume(cut)


@pytest.mark.slow
def test_the_queue_waits_in_order_and_a_place_in_it_can_be_given_up(new_run: Create) -> None:
    first, second = new_run(**LONG), new_run(**LONG)
    with locked_if_free(runs_dir() / QUEUE_LOCK) as had:
        assert had
        launch(second)
        launch(first)
        for run in (first, second):
            wait_until(lambda run=run: run.state().stage == "queue", run)  # type: ignore[misc]
            assert not _has_loaded_torch(run)
        wait_until(lambda: "2 runs" in second.state().message, second)
        assert first.state().message.startswith("Waiting for the run before")
    wait_until(lambda: first.state().status == "running", first)
    assert second.state().status == "queued"
    cancel(second)
    wait_until(ended(second), second)
    assert second.state().status == "cancelled"
    wait_until(has_merged(first), first)
    cancel(first)
    wait_until(ended(first), first)
    assert first.state().status == "cancelled"
    assert first.written_state().status == "cancelled"  # its own last word


@pytest.mark.slow
def test_an_old_run_behind_a_new_one_of_its_process_locks_nobody_out(new_run: Create) -> None:
    """A sweep that goes on takes its cells in their order, whatever their age; a stranger's age lies between."""
    brief = {"evaluate": [], "keep_model": False}
    old, stranger, new = new_run(**brief), new_run(**brief), new_run(**brief)
    with locked_if_free(runs_dir() / QUEUE_LOCK) as had:
        assert had
        launch(stranger)
        launch(new, old)
        for run in (stranger, new):
            wait_until(lambda run=run: run.state().stage == "queue", run)  # type: ignore[misc]
    for run in (new, old, stranger):
        wait_until(ended(run), run)
        assert run.state().status == "done", run.log()
    assert (new.state().finished or 0) < (stranger.state().started or 0)  # its process holds the oldest run


def test_a_process_that_will_not_end_is_killed(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "PATIENCE", 0.2)
    run = new_run()
    code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True) as stubborn:
        assert stubborn.stdout is not None
        stubborn.stdout.readline()
        run.update(status="running", **identity(stubborn.pid))
        cancel(run)
        assert run.state().message == "Cancelling"
        assert stubborn.wait(60) == -signal.SIGKILL
    assert run.state().status == "cancelled"


def test_no_process_group_but_its_own_is_signalled(new_run: Create) -> None:
    """A run in the foreground of a script shares the script's group, which must not end with it."""
    run = new_run()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as sleeper:
        assert os.getpgid(sleeper.pid) == os.getpgid(0)
        run.update(status="running", **identity(sleeper.pid))
        cancel(run)
        assert sleeper.wait(60) == -signal.SIGTERM


def _has_loaded_torch(run: Run) -> bool:
    pid = run.state().pid
    assert pid is not None
    try:
        return any("libtorch" in Path(map_.path).name for map_ in psutil.Process(pid).memory_maps())
    except (AttributeError, psutil.AccessDenied):  # not on every system
        return False
