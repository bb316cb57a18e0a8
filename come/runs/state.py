"""Where a run stands, and whether the process that works on it is there."""

from __future__ import annotations

import os
import socket
import time
from typing import Literal

from pydantic import BaseModel, ConfigDict

from come import processes

Status = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

SILENCE = 60.0  # seconds without a heartbeat after which a process on another host counts as gone


class State(BaseModel):
    """Where a run stands. Times are in unix seconds; its process is named by host, id and start."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Status = "queued"
    stage: str = ""
    step: int = 0
    of: int = 0
    message: str = ""
    error: str = ""
    hint: str = ""
    pid: int | None = None
    process_start_id: str = ""  # ``come.processes.start_id``
    process_started: float | None = None  # by the clock of then: all that versions before had to go by
    host: str = ""
    where: str = ""  # the cluster that it executes on, as its user wrote it; "" is the machine of its process
    sources: dict[str, str] = {}  # its model and its text, by ``come.source_fingerprint``
    created: float = 0.0
    started: float | None = None
    heartbeat: float | None = None
    finished: float | None = None
    visit: str = ""  # whose it is, where visitors are strangers: a token that is told to nobody
    seconds_at_most: float | None = None  # that it may work, all goes together; None for any time
    seconds_worked: float = 0.0  # so far, where that is bounded

    @property
    def active(self) -> bool:
        """Whether a process is at work on the run, or waits to be."""
        return self.status in ("queued", "running")


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
