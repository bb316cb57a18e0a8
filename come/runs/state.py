"""Where a run stands, and whether the process that works on it is there."""

from __future__ import annotations

import os
import socket
import time
from typing import Literal

import psutil
from pydantic import BaseModel, ConfigDict

Status = Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]

SILENCE = 60.0  # seconds without a heartbeat after which a process on another host counts as gone


class State(BaseModel):
    """Where a run stands. Times are in unix seconds; the process is named by host, id and start time."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: Status = "queued"
    stage: str = ""
    step: int = 0
    of: int = 0
    message: str = ""
    error: str = ""
    hint: str = ""
    pid: int | None = None
    process_started: float | None = None
    host: str = ""
    where: str = ""  # the cluster that it executes on, as its user wrote it; "" is the machine of its process
    sources: dict[str, str] = {}  # its model and its text, by ``come.source_fingerprint``
    created: float = 0.0
    started: float | None = None
    heartbeat: float | None = None
    finished: float | None = None

    @property
    def active(self) -> bool:
        """Whether a process is at work on the run, or waits to be."""
        return self.status in ("queued", "running")


def alive(state: State) -> bool:
    """Whether the run's process is there; one on another host is believed by its heartbeat."""
    if state.host != socket.gethostname():
        return time.time() - (state.heartbeat or 0.0) < SILENCE
    return process_of(state) is not None


def process_of(state: State) -> psutil.Process | None:
    """The run's process on this host, unless it is gone, a zombie, or another one that got its number."""
    if state.pid is None:
        return None
    try:
        process = psutil.Process(state.pid)
        # The system's clock may be set in between, which moves start times a little.
        same = abs(process.create_time() - (state.process_started or 0.0)) < 2
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.Error:
        return None


def identity(pid: int) -> dict[str, int | float | str]:
    """The fields of a state that name a process of this host."""
    try:
        started = psutil.Process(pid).create_time()
    except psutil.Error:
        started = 0.0  # it is gone already: no process matches this
    return {"pid": pid, "process_started": started, "host": socket.gethostname()}


def is_own(state: State) -> bool:
    """Whether this process is the one that sees to the run of a state: no other one has its number while it lives."""
    return (state.pid, state.host) == (os.getpid(), socket.gethostname())
