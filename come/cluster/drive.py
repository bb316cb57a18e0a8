"""The side of a run that is here: it sends runs to a cluster, brings their files back, and sees to lost workers.

This process is the run's process for all who look at it: it is the one in state.json, and the one to cancel.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from come.cluster.connect import connected
from come.cluster.crew import Crew, fail, still_own
from come.errors import ComeError
from come.events import Event, OnProgress
from come.files import new_lines
from come.runs.cluster_target import ClusterTarget
from come.runs.execute import FAULT, RunFault
from come.runs.process import claim
from come.runs.store import CANCEL_REQUEST, Run

LOOK = 0.2  # seconds between two looks at the workers


def execute_on(place: ClusterTarget, run: Run, on_progress: OnProgress = None) -> None:
    """Execute a run on a cluster and wait for its end. How it ends is in its state.

    Raises:
        ComeError: there is no such cluster, or the run failed by something the user can put right.
        RunFault: it failed by something else.
        KeyboardInterrupt: it was cancelled.
    """
    claim(run, place.text)
    _drive(place, [run], on_progress)
    state = run.written_state()
    if state.status == "cancelled":
        raise KeyboardInterrupt
    if state.status == "failed":
        if state.error.startswith(FAULT):
            raise RunFault(f"{state.error} {state.hint}")
        raise ComeError(state.error, state.hint)


def execute_all_on(place: ClusterTarget, runs: Sequence[Run], on_progress: OnProgress = None) -> None:
    """Execute the cells of a sweep on a cluster, as many at a time as there is room for. How each ends is in its state.

    Raises:
        ComeError: there is no such cluster.
        KeyboardInterrupt: all of it was interrupted, not a single run cancelled.
    """
    todo = []
    for run in runs:
        if run.state().status != "done":
            with suppress(ComeError):  # another process is at work on it
                claim(run, place.text)
                todo.append(run)
    if _drive(place, todo, on_progress):
        raise KeyboardInterrupt


def chains(runs: Sequence[Run]) -> list[list[Run]]:
    """The runs by what one worker does in turn: those of one method and seed.

    They gain by it: a step-by-step method goes on from its milder result, and tokens and measurements are shared.
    Other methods and seeds share little but the loading, and so go side by side.
    """
    found: dict[Any, list[Run]] = {}
    for run in runs:
        config = run.config
        found.setdefault((config.kind, config.method, config.seed, config.model), []).append(run)
    return list(found.values())


def _drive(place: ClusterTarget, runs: Sequence[Run], on_progress: OnProgress) -> bool:
    """Sees runs to their ends; returns whether everything was interrupted."""
    interrupted = False
    try:
        with connected(place) as ray, _told_to_end() as told:
            crews = [Crew(ray, place, chain) for chain in chains(runs)]
            teller = _Teller(runs, on_progress)
            try:
                while not all(crew.over for crew in crews):
                    for crew in crews:
                        crew.look()
                    teller.tell()
                    if told.wait(LOOK):
                        told.clear()
                        interrupted |= _interrupt(runs, crews)
                teller.tell()
            finally:
                for crew in crews:
                    crew.dismiss()
    except Exception as error:
        sentence = error if isinstance(error, ComeError) else _lost_cluster(place, error)
        for run in still_own(runs):
            fail(run, sentence)
        raise sentence from error
    return interrupted


def _interrupt(runs: Sequence[Run], crews: Sequence[Crew]) -> bool:
    """A signal came: for a run that was asked to end, whose crew sees to that, or else for all of them."""
    if any(crew.has_news() for crew in crews):
        return False
    for run in still_own(runs):
        (run.path / CANCEL_REQUEST).touch()
    return True


def _lost_cluster(place: ClusterTarget, error: Exception) -> ComeError:
    words = " ".join(str(error).split())[:200]
    return ComeError(
        f"The Ray cluster at {place.address} was lost ({type(error).__name__}: {words}).",
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


class _Teller:
    """Passes on what appears in the runs' events."""

    def __init__(self, runs: Sequence[Run], on_progress: OnProgress) -> None:
        self.on_progress = on_progress
        self.files = [run.path / "events.jsonl" for run in runs] if on_progress is not None else []
        self.read = {path: path.stat().st_size if path.exists() else 0 for path in self.files}

    def tell(self) -> None:
        for path in self.files:
            lines, self.read[path] = new_lines(path, self.read[path])
            for line in lines:
                line.pop("time", None)
                if self.on_progress is not None:
                    self.on_progress(Event(**line))
