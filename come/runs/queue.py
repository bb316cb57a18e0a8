"""One run at a time in a folder of runs; who waits goes by age."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from come.files import locked_if_free
from come.runs.state import State
from come.runs.store import QUEUE_LOCK, Run, list_runs

LOOK_AGAIN = 0.5  # seconds


@contextmanager
def turn(run: Run, waiting: Callable[[str], None]) -> Iterator[None]:
    """Waits until no older process waits and nothing executes, then holds the folder's place.

    The place is a file lock, which the system frees when its holder ends, however it ends.

    Args:
        run: the run that wants to execute; one outside a folder of runs need not wait.
        waiting: told, at every look, why there is no going on yet.
    """
    lock = run.path.parent / QUEUE_LOCK
    if not lock.exists():
        yield
        return
    while True:
        ahead = _ahead(run)
        if ahead == 0:
            with locked_if_free(lock) as had:
                if had:
                    yield
                    return
        waiting("Waiting for the run before it" if ahead == 0 else f"Waiting for {ahead + 1} runs before it")
        time.sleep(LOOK_AGAIN)


def _ahead(run: Run) -> int:
    """How many runs of older processes wait for the place as well.

    A process is as old as the oldest run that waits with it, and takes its runs in an order of its own. If the runs
    themselves were compared, an old one behind a new one could keep out a stranger that keeps out the new one.
    """
    mine = run.written_state()
    process = (mine.host, mine.pid)
    others = ((other, other.state()) for other in list_runs(run.path.parent))
    waiting = [
        ((state.host, state.pid), _age(other, state))
        for other, state in others
        if state.status == "queued" and state.pid is not None and not state.where  # a cluster's runs wait there
    ]
    own = min([_age(run, mine), *(age for owner, age in waiting if owner == process)])
    return sum(age < own for owner, age in waiting if owner != process)


def _age(run: Run, state: State) -> tuple[float, str]:
    return state.created, run.id
