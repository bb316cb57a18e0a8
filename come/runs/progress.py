"""What a run writes of its progress: events.jsonl, and stage, step and heartbeat in state.json."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from types import TracebackType

from come.errors import ComeError
from come.events import Event, OnProgress
from come.files import append_line, end_line
from come.runs.run import CANCEL_REQUEST, Run

TICK = 0.25  # seconds between looks for something new to write
BEAT = 2.0  # seconds between heartbeats when there is nothing new


class ProgressWriter:
    """The progress callback of a run: every event goes to events.jsonl, the latest to state.json.

    state.json is written by a thread of its own, a few times a second at most, so that the work does not wait
    for the disk; a change of stage is written at once. Use it as a context manager.
    """

    def __init__(self, run: Run, on_progress: OnProgress = None) -> None:
        self.run = run
        self._on_progress = on_progress
        self._latest: Event | None = None  # not yet in state.json
        self._stage = ""
        self._writing = threading.Lock()
        self._written = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> ProgressWriter:
        end_line(self.run.path / "events.jsonl")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        with suppress(ComeError, OSError):
            self._write()

    def __call__(self, event: Event) -> None:
        """Take in an event.

        Raises:
            KeyboardInterrupt: somebody asked for the run to be cancelled.
            ComeError: the disk is full.
        """
        append_line(self.run.path / "events.jsonl", {"time": time.time(), **event.to_dict()})
        self._latest = event
        if event.stage != self._stage:
            self._stage = event.stage
            self._write()
        if self._on_progress is not None:
            self._on_progress(event)
        self.stop_if_asked()

    def waiting(self, message: str) -> None:
        """Say why the run does not begin yet; the same reason again is no news."""
        if message != self.run.written_state().message:
            self(Event("queue", 0, 1, message))
        self.stop_if_asked()

    def stop_if_asked(self) -> None:
        """Raise KeyboardInterrupt if the run was asked to end, in case no signal reached it."""
        if (self.run.path / CANCEL_REQUEST).exists():
            raise KeyboardInterrupt

    def _beat(self) -> None:
        while not self._over.wait(TICK):
            if self._latest is not None or time.monotonic() - self._written > BEAT:
                with suppress(ComeError, OSError):
                    self._write()

    def _write(self) -> None:
        with self._writing:
            event, self._latest = self._latest, None
            news = event.to_dict() if event else {}
            news.pop("values", None)
            self.run.update(heartbeat=time.time(), **news)
            self._written = time.monotonic()
