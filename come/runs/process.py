"""Runs as processes of their own: starting one, seeing whether it lives, ending it, going on with it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress

from come.errors import ComeError
from come.files import locked, locked_if_free, replace
from come.processes import start_detached
from come.reading import is_there
from come.runs.cluster_target import cluster_target
from come.runs.documents import CONFIG
from come.runs.run import CANCEL_REQUEST, HANDS_LOCK, PROCESS, WORK_LOCK, Run, at_work, process_of
from come.runs.state import State, identity, is_here, is_own
from come.runs.store import Admission
from come.runs.time_limit import check_time_left, has_time_left

PATIENCE = 10.0  # seconds that a cancelled process has to end by itself
PATIENCE_OF_LOOKS = 2.0  # seconds: who looks whether a directory is held holds it for a moment


def launch(*runs: Run, where: str = "") -> None:
    """Start a process that executes the runs, in that order, and return. It outlives this one, and waits for its turn.

    A run that was interrupted, cancelled or failed goes on: its plan is replayed, its events are kept.

    Args:
        runs: what to execute.
        where: the cluster to do it on (``come.runs.cluster_target``); the process then only sees to it. "" is here.

    Raises:
        ComeError: a process is at work on one of the runs already, or it is done; or there is no such place.
    """
    place = cluster_target(where)
    on = ["--on", place.text] if place else []
    with ExitStack() as held:
        for run in runs:
            held.enter_context(_changing_hands(run))
        for run in runs:
            _reopen(run)
        paths = [str(run.path) for run in runs]
        child = start_detached("come", "runs", "execute", *on, *paths, log=runs[0].path / "log.txt")
        # The child writes the same once it has started; until then, this is how others see that it lives.
        for run in runs:
            _take_up(run, child.pid, place.text if place else "")


def resume(run: Run, allowed: Admission | None = None) -> None:
    """Go on with a run that was interrupted, cancelled or failed: its plan is replayed, its events are kept.

    It goes on where it was: on this machine, or on the same cluster.

    Raises:
        ComeError: the run is done, still at work or gone; it has worked as long as it may; or more runs wait than are
            allowed here.
    """
    state = run.written_state()
    check_time_left(state)
    if allowed is None:
        launch(run, where=state.where)
        return
    allowed.check_run(run.config)
    with allowed.admitted([run.config], run.path.parent, state.visit):
        launch(run, where=state.where)


def resume_all(runs: Sequence[Run], allowed: Admission | None = None) -> None:
    """Go on with those runs of a sweep that ended without a result and may, in one process and in their order.

    Raises:
        ComeError: none of them can go on; or more runs wait than are allowed here.
    """
    todo = [run for run in runs if run.state().status in ("cancelled", "interrupted", "failed")]
    todo = [run for run in todo if has_time_left(run.written_state())]
    if not todo:
        raise ComeError("No run of this sweep can go on.", "Start a new one.")
    state = todo[0].written_state()
    if allowed is None:
        launch(*todo, where=state.where)
        return
    configs = [run.config for run in todo]
    for config in configs:
        allowed.check_run(config)
    with allowed.admitted(configs, todo[0].path.parent, state.visit, but=configs[0].sweep):
        launch(*todo, where=state.where)


def cancel(run: Run) -> None:
    """Ask a run to end, and see to it that it does. Returns at once; the state follows the process.

    Raises:
        ComeError: the run has ended already, is gone, or is another user's.
    """
    with _changing_hands(run):
        state, written = run.state(), run.written_state()
        unlaunched = written.active and written.pid is None
        if not (state.active or unlaunched or at_work(run)):
            raise ComeError(f"The run {run.id} is {state.status}: there is nothing to cancel.")
        # The run itself looks for the request too, with every event: it may be on another host.
        (run.path / CANCEL_REQUEST).touch()
        # The process of a run that waits within a sweep is at work on another one.
        waits_within = state.status == "queued" and bool(run.config.sweep)
        if unlaunched or waits_within:
            run.update(status="cancelled", finished=time.time())
            return
    if state.status == "unreadable":
        state = written if written.pid is not None else process_of(run)
    if is_here(state):
        _signal(state, signal.SIGTERM)
        _signal(state, signal.SIGCONT)  # else a stopped process never hears of it
        # Not a daemon: a command line that cancels stays until the run has ended.
        threading.Thread(target=_make_sure, args=(run, state), name=f"cancel-{run.id}").start()


def claim(run: Run, where: str = "", held_here: bool = False) -> None:
    """Write this process into the run's state as the one that executes it, waiting for its turn.

    Args:
        run: the run.
        where: the cluster that it executes on, if this process only sees to it.
        held_here: the caller is ``working`` in its directory already.

    Raises:
        ComeError: another process is at work on the run, the run is done, or a file of it is damaged.
    """
    with _changing_hands(run):
        state = run.state()
        if not (state.status == "queued" and is_own(state)):
            _reopen(run, held_here)
        _take_up(run, os.getpid(), where)


@contextmanager
def working(run: Run) -> Iterator[None]:
    """Holds a run's directory while this process is at work in it: no other one works there, and none removes it.

    The system lets go when the process ends, however it ends, whatever the clock and state.json say.

    Raises:
        ComeError: another process holds it, or it was deleted.
    """
    _check_there(run)
    with locked_if_free(run.path / WORK_LOCK, patience=PATIENCE_OF_LOOKS) as had:
        if not had:
            raise ComeError(f"Another process is at work on the run {run.id}.")
        try:
            yield
        finally:
            with suppress(OSError):
                (run.path / PROCESS).unlink(missing_ok=True)


@contextmanager
def _changing_hands(run: Run) -> Iterator[None]:
    """One process at a time decides who works on a run: two clicks start one process.

    Raises:
        ComeError: the run was deleted.
    """
    _check_there(run)
    with locked(run.path / HANDS_LOCK):
        if not is_there(run.path / CONFIG):  # deleted while this waited, which made its folder anew
            with suppress(OSError):
                (run.path / HANDS_LOCK).unlink()
                run.path.rmdir()
            _check_there(run)
        yield


def _check_there(run: Run) -> None:
    if not run.path.is_dir():
        raise ComeError(f"The run {run.id} is not there any more.")


def _take_up(run: Run, pid: int, where: str) -> None:
    """Write down which process executes a run: in its state, and beside it, should that be damaged."""
    process = State(**identity(pid), heartbeat=time.time(), where=where)
    replace(run.path / PROCESS, process.model_dump_json(include=set(identity(pid))))
    run.update(**process.model_dump(include={*identity(pid), "heartbeat", "where"}))


def _reopen(run: Run, held_here: bool = False) -> None:
    """Put a run that no process works on back to the state of a new one.

    Raises:
        ComeError: a process is at work on it, it is done, or a file of it is damaged.
    """
    if what := at_work(run, held_here):
        raise ComeError(f"The run {run.id} is {what} already.")
    run.check()
    run.plan()  # what is damaged is told now, not by the process
    state = run.written_state()
    if state.status == "done":
        raise ComeError(f"The run {run.id} is done: there is nothing left to do.")
    (run.path / CANCEL_REQUEST).unlink(missing_ok=True)
    kept = ("request", "created", "started", "sources", "visit", "seconds_at_most", "seconds_worked")
    anew = State(**{name: getattr(state, name) for name in kept})
    run.update(**anew.model_dump())


def _signal(state: State, number: signal.Signals) -> None:
    """Send a signal to the run's process, and to its whole group where it leads one (a launched run does)."""
    if state.pid is None or not is_here(state):
        return
    try:
        if os.getpgid(state.pid) == state.pid:
            os.killpg(state.pid, number)
        else:
            os.kill(state.pid, number)
    except ProcessLookupError:
        pass  # it has just ended
    except PermissionError as error:
        raise ComeError("The run belongs to another user of this machine.") from error


def _make_sure(run: Run, state: State) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if not is_here(state) or not run.written_state().active:
            return
        time.sleep(0.1)
    _signal(state, signal.SIGKILL)
