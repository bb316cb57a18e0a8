"""Side jobs of a finished run, such as packing its model: a process each, whose state is one JSON file in the run."""

from __future__ import annotations

import json
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter

from come import files, reading
from come.errors import ComeError
from come.processes import give_way, start_detached
from come.runs.admission import active_requests
from come.runs.run import TAKEAWAY, Run
from come.runs.state import State, alive, identity
from come.runs.store import list_runs

QUEUE = ".aside"  # in a folder of runs: held by the one such job at work
RELOAD = "reload.json"  # in a run: how its reload check stands
WINDOWS = "window_costs.json"  # in a run: how measuring its windows stands
NEEDED = "layers_needed_job.json"  # in a run: how the search for how few layers sequences need stands
LOOK_AGAIN = 1.0  # seconds, while a job waits for runs

Status = Literal["none", "working", "done", "failed"]


@dataclass(frozen=True)
class SideJob:
    """The state of a side job.

    Attributes:
        status: "none" where it was never started.
        message: what it does now. error, hint: how it failed.
        values: what it found.
    """

    status: Status = "none"
    message: str = ""
    error: str = ""
    hint: str = ""
    values: Mapping[str, Any] = field(default_factory=dict)


def read(file: Path) -> SideJob:
    """How the job of that file stands; one whose process is gone has failed."""
    told = _told(file)
    if told is not None and told.status == "working" and not alive(told.process):
        told = _told(file)  # it may have written its last word between the two looks
        if told is not None and told.status == "working":
            return SideJob("failed", error="The process stopped without ending.", hint="Start it again.")
    return SideJob(told.status, told.message, told.error, told.hint, told.values) if told is not None else SideJob()


class _Told(BaseModel):
    """What the file of a job says, beside the process that does it."""

    status: Status
    message: str = ""
    error: str = ""
    hint: str = ""
    values: dict[str, Any] = {}
    process: State


_KIND = TypeAdapter(_Told)


def _told(file: Path) -> _Told | None:
    """What the file of a job says; None where there is none, or where it is damaged: the job is then done anew."""
    try:
        values = reading.document(file, TypeAdapter(dict[str, Any]))
        process = {name: values[name] for name in identity(os.getpid()) if name in values} | {"status": "running"}
        return reading.validated({**values, "process": process}, _KIND, str(file))
    except (FileNotFoundError, ComeError):
        return None


def at_work(run: Run) -> list[Path]:
    """The files of a run's jobs that are at work or wait for their turn."""
    files = [*(run.path / TAKEAWAY).glob("*.json"), *(run.path / name for name in (RELOAD, WINDOWS, NEEDED))]
    return [file for file in files if read(file).status == "working"]


def start(run: Run, module: str, file: Path, *arguments: str, most: int | None = None) -> None:
    """Run ``python -m module RUN arguments`` and return; a job that is at work already is left to it.

    Args:
        run: the run that the job is for.
        module: what to execute; its ``main`` calls ``work``.
        file: where it tells how it stands.
        arguments: more of them.
        most: how many such jobs may be at work or wait of all runs of the same visit; None for any number.

    Raises:
        ComeError: the run has not ended well, its folder cannot be written, or its visitor has as many jobs as may be.
    """
    state = run.state()
    if state.status != "done":
        raise ComeError(f"The run {run.id} is {state.status}.", "Its model is there when it is done.")
    if state.visit and most is not None and read(file).status != "working":
        _check_others(run, state.visit, most)
    with files.disk_faults(file.parent):
        file.parent.mkdir(exist_ok=True)
    with files.locked(run.path / ".aside"):  # two clicks start one process
        if read(file).status == "working":
            return
        child = start_detached(module, str(run.path), *arguments)
        _write(file, "working", identity(child.pid), message="Starting")


def work(run: Run, file: Path, job: Callable[[Callable[[str], None]], dict[str, Any]], queue: str = QUEUE) -> None:
    """Do a job in this process and tell of it in the file.

    Args:
        run: the run that it is for; the traceback of a fault of ours goes to its log.
        file: where to tell how it stands.
        job: given a function that tells what is being done, it gives what was found. What takes memory it imports
            itself, when it is called: those that wait for their turn must hold little.
        queue: jobs of one queue are done one after the other.
    """
    give_way()
    me = identity(os.getpid())
    with files.locked(run.path / ".aside"):  # whoever started this has written its file
        _write(file, "working", me, message="Waiting for its turn")
    began = time.time()
    try:
        with files.locked(run.path.parent / queue):  # each may hold a model in memory: one after the other
            values = job(lambda message: _write(file, "working", me, message=message))
        _write(file, "done", me, values={**values, "seconds": round(time.time() - began, 1), "time": time.time()})
    except ComeError as error:
        _write(file, "failed", me, error=error.what, hint=error.hint)
    except Exception as error:
        with (run.path / "log.txt").open("a", encoding="utf-8") as log:
            log.write("".join(traceback.format_exception(error)))
        words = files.disk_sentence(error, run.path) or ComeError(
            f"It failed ({type(error).__name__}).", "The run's log has the details."
        )
        _write(file, "failed", me, error=words.what, hint=words.hint)


def giving_way(run: Run, stop: Path, tell: Callable[[str], None]) -> Callable[[], bool]:
    """What a job asks before each part: waits while runs are at work, and says whether the job is to go on.

    Args:
        run: the run that the job is for.
        stop: a file that is there once somebody asked for the job to end.
        tell: is told of the waiting.
    """

    def go_on() -> bool:
        while active_requests(run.path.parent) and not stop.exists():
            tell("Waiting for the run at work")
            time.sleep(LOOK_AGAIN)
        return not stop.exists()

    return go_on


def _check_others(run: Run, visit: str, most: int) -> None:
    """Refuse one more job of a visit that has as many as may be; an analysis is measured beside them."""
    own = [other for other in list_runs(run.path.parent) if other.written_state().visit == visit]
    waiting = [file for other in own for file in at_work(other) if file.name not in (WINDOWS, NEEDED)]
    if len(waiting) >= most:
        raise ComeError("Another download of yours is being prepared.", "Wait until it is done.")


def _write(file: Path, status: Status, process: dict[str, Any], **told: Any) -> None:
    files.replace(file, json.dumps({"status": status, **process, **told}, indent=1))
