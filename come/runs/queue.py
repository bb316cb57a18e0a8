"""One run at a time in a folder of runs. Visits take turns; within a visit, who waits goes by age."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from come import files
from come.errors import ComeError
from come.files import locked_if_free
from come.runs.run import Run
from come.runs.state import State
from come.runs.store import QUEUE_LOCK, list_runs

LOOK_AGAIN = 0.5  # seconds
TURNS = ".turns"  # in a folder of runs: when each visit had its last turn, {visit: unix seconds}
VISITS_KEPT = 200  # in that file, those with the latest turns
_LONGEST = 1 << 16  # bytes of it


@contextmanager
def turn(run: Run, waiting: Callable[[str], None]) -> Iterator[None]:
    """Waits until nobody that waits comes first and nothing executes, then holds the folder's place.

    The place is a file lock, which the system frees when its holder ends, however it ends.

    Args:
        run: the run that wants to execute; one outside a folder of runs need not wait.
        waiting: told, at every look, why there is no going on yet.
    """
    folder = run.path.parent
    lock = folder / QUEUE_LOCK
    if not lock.exists():
        yield
        return
    while True:
        ahead = _ahead(run)
        if ahead == 0:
            with locked_if_free(lock) as had:
                if had:
                    _note_turn(folder, run.written_state().visit)
                    yield
                    return
        waiting("Waiting for the run before it" if ahead == 0 else f"Waiting for {ahead + 1} runs before it")
        time.sleep(LOOK_AGAIN)


def _ahead(run: Run) -> int:
    """How many runs of processes that come first wait for the place as well.

    A process is as old as the oldest run that waits with it, and takes its runs in an order of its own. If the runs
    themselves were compared, an old one behind a new one could keep out a stranger that keeps out the new one.

    It comes first whose visit had its last turn longest ago, or which has waited longest where that is less: so visits
    take turns however much each asks for, and nobody is overtaken by all who come later.
    """
    mine = run.written_state()
    process, turns = (mine.host, mine.pid), _last_turns(run.path.parent)
    others = ((other, other.state()) for other in list_runs(run.path.parent))
    waiting = [
        ((state.host, state.pid), _place(other, state, turns))
        for other, state in others
        if state.status == "queued" and state.pid is not None and not state.where  # a cluster's runs wait there
    ]
    own = min([_place(run, mine, turns), *(place for owner, place in waiting if owner == process)])
    return sum(place < own for owner, place in waiting if owner != process)


def _place(run: Run, state: State, turns: dict[str, float]) -> tuple[float, float, str]:
    return max(state.created, turns.get(state.visit, 0.0)), state.created, run.id


def _last_turns(folder: Path) -> dict[str, float]:
    """When each visit had its last turn; a file that cannot be read tells of none."""
    now = time.time()
    with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError):
        with (folder / TURNS).open("rb") as file:
            told = json.loads(file.read(_LONGEST))
        # A turn that lies ahead, by a clock that was set, counts as one of now.
        return {str(visit): min(float(when), now) for visit, when in told.items()}
    return {}


def _note_turn(folder: Path, visit: str) -> None:
    """Write down that a visit has its turn now. The holder of the place alone writes here."""
    turns = _last_turns(folder) | {visit: time.time()}
    latest = sorted(turns, key=turns.__getitem__)[-VISITS_KEPT:]
    with suppress(ComeError, OSError):  # then the order is by age
        files.replace(folder / TURNS, json.dumps({name: turns[name] for name in latest}))
