"""The side of a run that is here: it has jobs of a cluster execute runs, and sees to them until all have ended.

This process is the run's process for all who look at it: it is the one in state.json, and the one to cancel.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from typing import Any

from come.cluster.connect import connected, job_client
from come.cluster.submission import Submission, fail, still_own, stop_earlier
from come.errors import ComeError
from come.events import Event, OnProgress
from come.files import new_lines
from come.runs.cluster_target import ClusterTarget
from come.runs.execute import FAULT, RunFault
from come.runs.process import claim
from come.runs.run import CANCEL_REQUEST, Run

LOOK = 0.2  # seconds between two looks at the jobs


def execute_on(target: ClusterTarget, run: Run, on_progress: OnProgress = None) -> None:
    """Execute a run on a cluster and wait for its end. How it ends is in its state.

    Raises:
        ComeError: there is no such cluster, or the run failed by something the user can put right.
        RunFault: it failed by something else.
        KeyboardInterrupt: it was cancelled.
    """
    claim(run, target.text)
    _drive(target, [run], on_progress)
    state = run.written_state()
    if state.status == "cancelled":
        raise KeyboardInterrupt
    if state.status == "failed":
        if state.error.startswith(FAULT):
            raise RunFault(f"{state.error} {state.hint}")
        raise ComeError(state.error, state.hint)


def execute_all_on(target: ClusterTarget, runs: Sequence[Run], on_progress: OnProgress = None) -> None:
    """Execute the cells of a sweep on a cluster, as many at a time as there is room for. How each ends is in its state.

    Raises:
        ComeError: there is no such cluster.
        KeyboardInterrupt: all of it was interrupted, not a single run cancelled.
    """
    todo = []
    for run in runs:
        if run.state().status != "done":
            with suppress(ComeError):  # another process is at work on it
                claim(run, target.text)
                todo.append(run)
    if _drive(target, todo, on_progress):
        raise KeyboardInterrupt


def chains(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by what one job does in turn: those of one method and seed.

    They gain by it: a step-by-step method goes on from its milder result, and tokens and measurements are shared.
    Other methods and seeds share little but the loading, and so go side by side.
    """
    found: dict[Any, list[Run]] = {}
    for run in runs:
        config = run.config
        found.setdefault((config.kind, config.method, config.seed, config.model), []).append(run)
    return list(found.values())


def _drive(target: ClusterTarget, runs: Sequence[Run], on_progress: OnProgress) -> bool:
    """Sees runs to their ends; returns whether everything was interrupted."""
    interrupted = False
    try:
        with ExitStack() as held, _told_to_end() as told:
            client = job_client(target)
            stop_earlier(client, runs)
            ray = cache(lambda: held.enter_context(connected(target)))
            submissions = [Submission(client, target, chain, ray) for chain in chains(runs)]
            for each in submissions:
                held.callback(each.stop)
            pass_on = _new_events(runs, on_progress)
            while not all(each.over for each in submissions):
                for each in submissions:
                    each.advance()
                pass_on()
                if told.wait(LOOK):
                    told.clear()
                    interrupted |= _interrupt(runs, submissions)
            pass_on()
    except Exception as error:
        sentence = error if isinstance(error, ComeError) else _lost_cluster(target, error)
        for run in still_own(runs):
            fail(run, sentence)
        raise sentence from error
    return interrupted


def _interrupt(runs: Sequence[Run], submissions: Sequence[Submission]) -> bool:
    """A signal came: for a run that was asked to end, whose submission sees to that, or else for all of them."""
    if any(each.has_news() for each in submissions):
        return False
    for run in still_own(runs):
        (run.path / CANCEL_REQUEST).touch()
    return True


def _lost_cluster(target: ClusterTarget, error: Exception) -> ComeError:
    words = " ".join(str(error).split())[:200]
    return ComeError(
        f"The Ray cluster at {target.address} was lost ({type(error).__name__}: {words}).",
        "When it is there again, resume: the run goes on where its files end.",
    )


@contextmanager
def _told_to_end() -> Iterator[threading.Event]:
    """Within, SIGINT and SIGTERM set an event instead (signals reach the main thread only)."""
    told = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield told
        return
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(kind, lambda *_: told.set()) for kind in kinds]
    try:
        yield told
    finally:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)


def _new_events(runs: Sequence[Run], on_progress: OnProgress) -> Callable[[], None]:
    """What passes on, each time it is called, the events that have come to the runs' files since."""
    files = [run.path / "events.jsonl" for run in runs] if on_progress is not None else []
    read = {path: path.stat().st_size if path.exists() else 0 for path in files}

    def pass_on() -> None:
        for path in files:
            lines, read[path] = new_lines(path, read[path])
            for line in lines:
                line.pop("time", None)
                if on_progress is not None:
                    on_progress(Event(**line))

    return pass_on
