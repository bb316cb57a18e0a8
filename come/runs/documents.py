"""What the files of a run may hold, by kinds and ranges, and what is wrong with those that hold something else."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from come import reading
from come.errors import ComeError
from come.request import RunConfig
from come.runs import results_shape
from come.runs.results_shape import Name
from come.runs.state import KIND, Count, Seconds, State

CONFIG, STATE, RESULTS, EVENTS, LOG = "config.json", "state.json", "results.json", "events.jsonl", "log.txt"
PLAN, ANALYSIS = "plan.json", "analysis.safetensors"
SMALL = 1 << 20  # bytes of a request or a state
LARGEST_RESULTS = 16 << 20
EVENTS_READ = 4 << 20  # of the end of events.jsonl
LOG_READ = 1 << 20

# What else lies in a run by a name of its own: files that are appended to or locked, and folders.
_FILES = (EVENTS, LOG, PLAN, ANALYSIS, "window_costs.jsonl", ".lock", ".hands", ".work", ".process")
_FOLDERS = ("model", "checkpoint", "takeaway")


class _Event(TypedDict, total=False):
    time: Seconds
    stage: Name
    step: Count
    of: Count
    message: Annotated[str, Field(max_length=20_000)]
    values: dict[str, Any] | None


_EVENT: TypeAdapter[_Event] = TypeAdapter(_Event)
_OBJECT: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])


def is_run(folder: str | Path) -> bool:
    """Whether a folder holds a request or a state, of whatever kind they are.

    Raises:
        PermissionError: it may not be looked into.
    """
    for name in (CONFIG, STATE):
        with suppress(FileNotFoundError):
            os.lstat(os.path.join(folder, name))
            return True
    return False


def config_of(folder: Path) -> RunConfig:
    """The request of a run.

    Raises:
        ComeError: the folder holds none that this version reads.
    """
    return _config(folder, reading.stamp(folder / CONFIG))


@lru_cache(maxsize=1024)
def _config(folder: Path, stamp: object) -> RunConfig:
    """Read once while the file does not change: a page asks for the requests of all runs, several times."""
    del stamp
    try:
        values = reading.document(folder / CONFIG, _OBJECT, SMALL)
    except FileNotFoundError as error:
        if not is_run(folder):
            raise ComeError(f"{folder} holds no run.") from error
        raise reading.unreadable(folder / CONFIG, "it is not there") from error
    try:
        return RunConfig.stored(values)
    except (ComeError, TypeError, ValueError, RecursionError) as error:
        reason = error.what if isinstance(error, ComeError) else str(error)
        raise reading.unreadable(folder / CONFIG, reason[:300].rstrip(".")) from error


def request_id(folder: Path) -> str:
    """By what a request is known: SHA-256 of its file."""
    return file_id(folder / CONFIG)


def file_id(path: Path) -> str:
    """SHA-256 of a small file; "" where there is none.

    Raises:
        ComeError: it is no regular file, may not be read, or is large.
    """
    try:
        return hashlib.sha256(reading.bytes_of(path)).hexdigest()
    except FileNotFoundError:
        return ""


def state_of(folder: Path, name: str = STATE) -> State:
    """A state as its file says it.

    Raises:
        ComeError: there is none, or none that this version reads.
    """
    try:
        return reading.document(folder / name, KIND, SMALL)
    except FileNotFoundError as error:
        raise reading.unreadable(folder / name, "it is not there") from error


def results_of(folder: Path) -> dict[str, Any]:
    """results.json; empty where there is none.

    Raises:
        ComeError: it is damaged.
    """
    path = folder / RESULTS
    try:
        data = reading.bytes_of(path, LARGEST_RESULTS)
    except FileNotFoundError:
        return {}
    # Earlier versions wrote NaN, which tells nothing.
    values = reading.values_in(data, str(path), not_finite_is_none=True)
    reading.validated(values, results_shape.KIND, str(path))
    return dict(values)


def events_of(folder: Path) -> list[dict[str, Any]]:
    """The events that can be read, of the end of their file; a damaged line is left out."""
    try:
        data = reading.tail_of(folder / EVENTS, EVENTS_READ)
    except (FileNotFoundError, ComeError):
        return []
    lines = data.splitlines()[1 if len(data) == EVENTS_READ else 0 :]
    return [event for event in map(_event, lines) if event is not None]


def log_of(folder: Path) -> str:
    """The end of a run's log; empty where there is none."""
    try:
        return reading.tail_of(folder / LOG, LOG_READ).decode("utf-8", errors="replace")
    except (FileNotFoundError, ComeError):
        return ""


def fault_of(folder: Path) -> ComeError | None:
    """What is wrong with the files of a run that a reader needs, or that its process writes to; None if nothing is."""
    read = _read(folder, tuple(reading.stamp(folder / name) for name in (CONFIG, RESULTS, PLAN)))
    return read.fault or _odd(folder) or _state_fault(folder, read)


@dataclass(frozen=True)
class _Read:
    """What a request and results are like: what is wrong with them, or of which request each of them is."""

    fault: ComeError | None = None
    request: str = ""
    results_of: str = ""
    other_plan: bool = False  # than the run ended with


@lru_cache(maxsize=4096)
def _read(folder: Path, stamps: tuple[object, ...]) -> _Read:
    """Read once while the files do not change: lists ask for every run, every second or so."""
    del stamps
    try:
        config_of(folder)
        results = results_of(folder)
        ended_with = results.get("plan", "")
        plan = _plan_id(folder) if ended_with else ""
        return _Read(None, request_id(folder), results.get("request", ""), bool(plan) and plan != ended_with)
    except ComeError as error:
        return _Read(error)
    except FileNotFoundError as error:  # it went away between two looks
        return _Read(reading.unreadable(folder / CONFIG, error.strerror or "it is not there"))


def _state_fault(folder: Path, read: _Read) -> ComeError | None:
    """What is wrong with the state, or with files that are not of the request that it began with."""
    try:
        began_with = state_of(folder).request
    except ComeError as error:
        return error
    if began_with and read.request == read.results_of != began_with:
        return _foreign(folder / STATE)
    for name, request in ((CONFIG, read.request), (RESULTS, read.results_of)):
        if began_with and request and request != began_with:
            return _foreign(folder / name)
    return _foreign(folder / PLAN) if read.other_plan else None


def _plan_id(folder: Path) -> str:
    """Of the plan; "" where it cannot be read, which is told of where it is asked for."""
    try:
        return file_id(folder / PLAN)
    except ComeError:
        return ""


def _foreign(path: Path) -> ComeError:
    what = f"{path} is not this run's: it was changed since, or is another run's."
    return ComeError(what, "Put the run's own file back, or delete the run.")


def _odd(folder: Path) -> ComeError | None:
    """What is there by a name that files or folders of a run have, but is something else."""
    for names, right, words in ((_FILES, stat.S_ISREG, "regular file"), (_FOLDERS, stat.S_ISDIR, "folder")):
        for name in names:
            try:
                mode = os.stat(folder / name).st_mode
            except FileNotFoundError:
                continue
            except OSError as error:
                return reading.unreadable(folder / name, error.strerror or "it cannot be looked at")
            if not right(mode):
                return reading.unreadable(folder / name, f"it is no {words}")
    return None


def _event(line: bytes) -> dict[str, Any] | None:
    try:
        event = _EVENT.validate_json(line)
        if not {"time", "stage", "step", "of"} <= event.keys():
            return None
        values = reading.bounded(event.get("values") or {}, EVENTS, not_finite_is_none=True)
        return {"message": "", **event, "values": values}
    except (ValidationError, ComeError, RecursionError):
        return None
