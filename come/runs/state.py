"""Where a run stands, and whether the process that works on it is there."""

from __future__ import annotations

import os
import socket
import time
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from come import processes

# "unreadable" is never written: it is how a run shows of which a file is damaged.
Status = Literal["queued", "running", "done", "failed", "cancelled", "interrupted", "unreadable"]

SILENCE = 60.0  # seconds without a heartbeat after which a process on another host counts as gone
NO_SIGN_OF_LIFE = 30.0  # seconds without one after which a process that is there is said to hang
LONGEST = 4000  # characters of a text in a state

Seconds = Annotated[float, Field(ge=0, le=4e10, allow_inf_nan=False)]  # since 1970, to the year 3237
Count = Annotated[int, Field(ge=0, lt=2**53)]
Text = Annotated[str, Field(max_length=LONGEST)]


class State(BaseModel):
    """Where a run stands. Times are in unix seconds; its process is named by host, id and start."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Status = "queued"
    stage: Text = ""
    step: Count = 0
    of: Count = 0
    message: Text = ""
    error: Text = ""
    hint: Text = ""
    pid: Annotated[int, Field(ge=1, lt=2**31)] | None = None
    process_start_id: Text = ""  # ``come.processes.start_id``
    process_started: Seconds | None = None  # by the clock of then: all that versions before had to go by
    host: Text = ""
    where: Text = ""  # the cluster that it executes on, as its user wrote it; "" is the machine of its process
    sources: Annotated[dict[str, Text], Field(max_length=20)] = {}  # its model and text, by ``source_fingerprint``
    request: Text = ""  # which request it began with, by ``come.runs.documents.request_id``; "" in earlier versions
    created: Seconds = 0.0
    started: Seconds | None = None
    heartbeat: Seconds | None = None
    finished: Seconds | None = None
    visit: Text = ""  # whose it is, where visitors are strangers: a token that is told to nobody
    seconds_at_most: Seconds | None = None  # that it may work, all goes together; None for any time
    seconds_worked: Seconds = 0.0  # so far, where that is bounded

    @property
    def active(self) -> bool:
        """Whether a process is at work on the run, or waits to be."""
        return self.status in ("queued", "running")

    def changed(self, **changes: Any) -> State:
        """The state with other values, as a reader takes them: texts of bounded length, steps of no negative number."""
        fit = {name: _fitting(value) for name, value in changes.items()}
        return self.model_copy(update=fit)

    def silent_for(self, now: float, alone: bool) -> float:
        """Seconds without a heartbeat of a process that should write one; 0 where it does, or need not.

        Args:
            now: unix seconds.
            alone: its process has no other run; else it writes only of the one that it is at work on, or waits with.
        """
        due = alone or self.status == "running" or self.stage == "queue"
        silent = now - self.heartbeat if due and self.heartbeat is not None else 0.0
        return silent if silent > NO_SIGN_OF_LIFE else 0.0


KIND = TypeAdapter(State)


def _fitting(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("\0", "").encode("utf-8", "replace").decode("utf-8")[:LONGEST]
    return max(value, 0) if isinstance(value, int) and not isinstance(value, bool) else value


def alive(state: State) -> bool:
    """Whether the run's process is there; one on another host is believed by its heartbeat."""
    if state.host != socket.gethostname():
        return time.time() - (state.heartbeat or 0.0) < SILENCE
    return is_here(state)


def is_here(state: State) -> bool:
    """Whether the run's process lives on this host, and is not another one that got its number."""
    if state.pid is None:
        return False
    if state.process_start_id:
        return processes.is_alive(state.pid, state.process_start_id)
    return processes.was_started_at(state.pid, state.process_started or 0.0)


def identity(pid: int) -> dict[str, int | float | str]:
    """The fields of a state that name a process of this host; one that is gone already is never found there."""
    return {
        "pid": pid,
        "process_start_id": processes.start_id(pid),
        "process_started": processes.started_at(pid),
        "host": socket.gethostname(),
    }


def is_own(state: State) -> bool:
    """Whether this process is the one that sees to the run of a state: no other one has its number while it lives."""
    return (state.pid, state.host) == (os.getpid(), socket.gethostname())
