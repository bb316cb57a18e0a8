"""Whose process lives: stopped ones, killed ones, those whose state is damaged, and the children they leave."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from come import processes
from come.errors import ComeError
from come.runs import Run, cancel, delete, execute, launch, progress, resume, state
from come.runs.run import SECONDS_TO_LAUNCH, at_work
from come.runs.state import NO_SIGN_OF_LIFE
from tests.runs.conftest import Create
from tests.runs.test_process import LONG, ended, has_merged, wait_until

DAMAGED = {
    "torn": lambda path: path.write_text("{"),
    "gone": lambda path: path.unlink(),
    "says done": lambda path: path.write_text('{"status": "done"}'),
    "says failed": lambda path: path.write_text('{"status": "failed", "error": "Not at all."}'),
    "another process": lambda path: path.write_text('{"status": "running", "pid": 1, "process_start_id": "other 1"}'),
}


@pytest.fixture
def stopped(new_run: Create) -> Any:
    """A run whose process was stopped in the midst of its work."""
    run = new_run(**LONG)
    launch(run)
    wait_until(has_merged(run), run)
    process = psutil.Process(run.written_state().pid)
    process.suspend()
    yield run, process
    if process.is_running():
        process.kill()
    psutil.wait_procs([process], timeout=60)


@pytest.mark.slow
def test_no_run_at_work_is_removed_or_started_again_whatever_its_state_says(
    stopped: tuple[Run, psutil.Process],
) -> None:
    run, process = stopped
    written = (run.path / "state.json").read_bytes()
    for damage in DAMAGED.values():
        (run.path / "state.json").write_bytes(written)
        damage(run.path / "state.json")
        for act in (delete, resume, launch, execute):
            with pytest.raises(ComeError):
                act(run)
        assert run.path.is_dir()
        assert process.is_running()
    process.kill()
    wait_until(lambda: not run.is_held(), run)
    delete(run)
    assert not run.path.exists()


def test_a_state_damaged_before_the_process_holds_its_directory_lets_nobody_delete_it(new_run: Create) -> None:
    run = new_run(**LONG)
    launch(run)
    (run.path / "state.json").write_text("")
    with pytest.raises(ComeError, match="at work"):
        delete(run)
    cancel(run)  # by what is written of its process beside the state
    wait_until(lambda: not at_work(run), run)
    delete(run)


@pytest.mark.slow
def test_the_clock_does_not_tell_who_lives(
    stopped: tuple[Run, psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, process = stopped
    for seconds in (-86400, 3, 86400):
        now = time.time()
        with monkeypatch.context() as patched:
            patched.setattr(time, "time", lambda now=now, seconds=seconds: now + seconds)
            patched.setattr(psutil.Process, "create_time", lambda self, now=now, seconds=seconds: now + seconds)
            # What versions wrote that knew a start by the clock alone, on a system without /proc.
            patched.setattr(state.processes, "start_id", lambda pid, seconds=seconds: repr(1e9 + seconds))
            assert run.state().status == "running"
            for act in (delete, resume, execute):
                with pytest.raises(ComeError):
                    act(run)
    assert process.is_running()


def test_a_process_that_hangs_is_told_of_and_cancelled(
    stopped: tuple[Run, psutil.Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, process = stopped
    heartbeat = run.written_state().heartbeat or 0.0
    assert "No sign of life" not in run.state().message
    monkeypatch.setattr(time, "time", lambda: heartbeat + NO_SIGN_OF_LIFE + 5)
    assert run.state().message == "No sign of life for 35 s"
    assert run.state().status == "running"
    cancel(run)
    wait_until(ended(run), run)
    assert run.state().status == "cancelled"
    assert run.written_state().status == "cancelled", "it was woken, and ended by itself"
    wait_until(lambda: not run.is_held(), run)
    psutil.wait_procs([process], timeout=60)
    assert not process.is_running()


@pytest.mark.slow
def test_a_run_that_nobody_took_up_can_be_resumed_cancelled_and_deleted(
    new_run: Create, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [new_run(evaluate=[], keep_model=False) for _ in range(3)]
    assert all(run.state().status == "queued" for run in runs)
    monkeypatch.setattr("come.runs.run.SECONDS_TO_LAUNCH", -1.0)
    for run in runs:
        assert run.state().status == "interrupted"
        assert run.state().error == "No process took this run up: its start was broken off."
    delete(runs[0])
    cancel(runs[1])
    assert runs[1].state().status == "cancelled"
    resume(runs[2])
    wait_until(ended(runs[2]), runs[2])
    assert runs[2].state().status == "done", runs[2].log()
    assert SECONDS_TO_LAUNCH == 60


def test_what_a_killed_process_left_in_the_folder_of_runs_goes(new_run: Create) -> None:
    folder = new_run().path.parent
    left = folder / ".deleted-some-run"
    left.mkdir()
    fresh, old = folder / ".new-fresh", folder / ".new-old"
    for each in (fresh, old):
        each.mkdir()
    os.utime(old, (1, 1))
    new_run()
    assert not left.exists()
    assert not old.exists()
    assert fresh.exists()


@pytest.mark.slow
def test_the_next_run_starts_after_the_last_has_finished(new_run: Create) -> None:
    brief = {"evaluate": [], "keep_model": False}
    runs = [new_run(**brief) for _ in range(2)]
    for run in runs:
        launch(run)
    for run in runs:
        wait_until(ended(run), run)
        assert run.state().status == "done", run.log()
    times = sorted((run.state().started or 0.0, run.state().finished or 0.0) for run in runs)
    assert all(earlier[1] <= later[0] for earlier, later in itertools.pairwise(times))


@pytest.mark.slow
def test_the_workers_of_a_killed_recovery_die_with_it_and_leave_nothing(new_run: Create) -> None:
    options = {"workers": 2, "steps": 100_000, "batch_tokens": 64, "checkpoint_minutes": 0}
    asked = {"recover": ["distill-mp"], "recover_tokens": 1024, "recover_options": options}
    run = new_run(evaluate=[], keep_model=False, **asked)
    launch(run)
    wait_until(lambda: any(event["values"].get("step") for event in run.events()), run)
    process = psutil.Process(run.state().pid)
    children = process.children(recursive=True)
    assert len(children) >= 2
    os.kill(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=30)
    assert not alive
    wait_until(ended(run), run)
    assert run.state().status == "interrupted"


def _pid_of_grandchild(code: str) -> tuple[subprocess.Popen[bytes], int]:
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


@pytest.mark.parametrize("by_the_system", [True, False])
def test_a_process_dies_with_its_parent(by_the_system: bool) -> None:
    ways = "" if by_the_system else "p._PR_SET_PDEATHSIG = 0;"
    child = f"import os, time; from come import processes as p; {ways} p.die_with(os.getppid()); print(os.getpid(), flush=True); time.sleep(600)"  # noqa: E501
    code = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(600)"
    parent, pid = _pid_of_grandchild(code)
    grandchild = psutil.Process(pid)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs([grandchild], timeout=30)
    assert not alive
    assert parent.stdout is not None
    parent.stdout.close()


def test_folders_of_killed_processes_are_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(processes, "_SECONDS_TO_LOCK", -1.0)
    code = (
        "import os, sys, tempfile, time; from come.processes import temporary_folder\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "with temporary_folder('come-test-') as folder: print(folder, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        left = Path(holder.stdout.readline().decode().strip())
        with processes.temporary_folder("come-test-"):
            assert left.is_dir(), "its process lives"
        holder.kill()
    stranger = tmp_path / "come-test-of-somebody-else"
    stranger.mkdir()
    with processes.temporary_folder("come-test-") as own:
        assert not left.exists()
        assert own.is_dir()
        assert stranger.is_dir()
    assert not own.exists()


WAITS: Callable[[float], None] = time.sleep


@pytest.mark.slow
def test_the_heart_beats_in_a_long_step(new_run: Create, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "BEAT", 0.2)
    run, beats = new_run(evaluate=[], keep_model=False), set[float]()

    def one_long_step(event: Any) -> None:
        if event.stage == "compress" and not beats:
            for _ in range(60):
                WAITS(0.02)
                beats.add(run.written_state().heartbeat or 0.0)

    execute(run, one_long_step)
    assert len(beats) >= 3
