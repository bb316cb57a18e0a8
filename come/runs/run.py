"""A run is a directory: everything that another process needs of it lies there, in files replaced whole."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from come import files, reading
from come.errors import ComeError
from come.request import RunConfig
from come.runs import documents
from come.runs.state import LONGEST, State, alive, is_here
from come.source_fingerprint import source_fingerprint

if TYPE_CHECKING:
    from come.measurement.measurement import Measurement
    from come.plan.plan import Plan

# Names in a run's directory.
WORK_LOCK = ".work"  # held by the process that is at work in it, while it lives
HANDS_LOCK = ".hands"  # held while it is decided who works on it
PROCESS = ".process"  # which process took it up, for when state.json is damaged
CANCEL_REQUEST = "cancel"  # somebody asked for it to end
STOP_REQUEST = "stop"  # somebody asked for its training to end early, keeping the best
MODEL = "model"  # the pruned model, a plain Transformers folder
TAKEAWAY = "takeaway"  # what was packed of it for download

SECONDS_TO_LAUNCH = 60.0  # a run that waits without a process for longer than this was never launched


@dataclass(frozen=True)
class Run:
    """One run, by its directory. Reading it costs nothing but the file that is asked for."""

    path: Path

    @property
    def id(self) -> str:
        """The directory's name."""
        return self.path.name

    @property
    def config(self) -> RunConfig:
        """What was asked for.

        Raises:
            ComeError: the directory holds no request that this version reads.
        """
        return documents.config_of(self.path)

    @property
    def fault(self) -> ComeError | None:
        """What is wrong with its files, in a sentence that names one; None where they can be read."""
        return documents.fault_of(self.path)

    @property
    def readable(self) -> bool:
        """Whether its request, its state and its results are such as this version reads."""
        return self.fault is None

    def check(self) -> None:
        """See that its files can be read.

        Raises:
            ComeError: one of them cannot; names it.
        """
        if (fault := self.fault) is not None:
            raise fault

    def state(self) -> State:
        """Where it stands now: interrupted (or cancelled, where that was asked) if its process is gone.

        It is unreadable, with the reason as its error, where a file of it is damaged.
        """
        state = self.written_state()
        if (fault := self.fault) is not None:
            kept = {"created": state.created or self._dated(), "visit": state.visit}
            return State(status="unreadable", error=fault.what[:LONGEST], hint=fault.hint, **kept)
        if not state.active:
            return state
        if state.pid is None:
            return self._unlaunched(state)
        asked_to_end = reading.is_there(self.path / CANCEL_REQUEST)
        if alive(state):
            return self._told(state, asked_to_end)
        # It may have written its last word between the two looks.
        state = self.written_state()
        if not state.active:
            return state
        if self.is_held():  # by a process whose id the state does not tell, if the clock was set, say
            return self._told(state, asked_to_end)
        return state.changed(status="cancelled" if asked_to_end else "interrupted")

    def _dated(self) -> float:
        """When its directory was changed last (unix seconds), for want of a date in it."""
        with suppress(OSError):
            return self.path.stat().st_mtime
        return 0.0

    def _told(self, state: State, asked_to_end: bool) -> State:
        """The state of a living process, with what its last message does not tell."""
        if asked_to_end:
            return state.changed(message="Cancelling")
        silent = state.silent_for(time.time(), alone=not self.config.sweep)
        return state.changed(message=f"No sign of life for {silent:.0f} s") if silent else state

    def _unlaunched(self, state: State) -> State:
        """The state of a run that no process took up: for a minute one may yet."""
        if state.status == "queued" and abs(time.time() - state.created) < SECONDS_TO_LAUNCH:
            return state
        return state.changed(
            status="interrupted",
            error="No process took this run up: its start was broken off.",
            hint="Resume it, or delete it.",
        )

    def is_held(self) -> bool:
        """Whether a process is at work in the directory, by the lock that it holds while it lives."""
        return files.is_locked(self.path / WORK_LOCK)

    def written_state(self) -> State:
        """What state.json says, whether or not its process is still there."""
        try:
            return documents.state_of(self.path)
        except ComeError as error:
            return State(status="unreadable", error=error.what[:LONGEST], hint=error.hint)

    def update(self, **changes: Any) -> State:
        """Change fields of state.json, one writer after the other, and return the new state.

        Raises:
            ComeError: the disk is full, or the state is damaged.
        """
        with files.locked(self.path / ".lock"):
            state = documents.state_of(self.path).changed(**changes)
            files.replace(self.path / "state.json", state.model_dump_json(indent=1))
        return state

    def sources_unchanged(self) -> bool:
        """Whether its model and its text are still the files that they were when it was asked for."""
        known = self.written_state().sources
        return not known or known == sources_of(self.config)

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """What was reported, without the first ``after``: time, stage, step, of, message, values."""
        return documents.events_of(self.path)[after:]

    def plan(self) -> Plan | None:
        """The plan so far; None before the first step, and for an analysis.

        Raises:
            ComeError: it is damaged.
        """
        from come.plan.plan import Plan

        path = self.path / documents.PLAN
        return Plan.read(path) if reading.is_there(path) else None

    def results(self) -> dict[str, Any]:
        """What is known so far: ``results.json``, empty before there is any, and where it is damaged (``check``)."""
        try:
            return documents.results_of(self.path)
        except ComeError:
            return {}

    def measurement(self) -> Measurement | None:
        """What an analysis measured; None before it ends, and for a run that prunes.

        Raises:
            ComeError: it is damaged.
        """
        from come.measurement.measurement import Measurement

        path = self.path / documents.ANALYSIS
        return Measurement.load(path) if reading.is_there(path) else None

    def log(self) -> str:
        """The end of the run's log: what its process wrote, tracebacks included."""
        return documents.log_of(self.path)

    def size_bytes(self) -> int:
        """What the directory takes on disk."""
        return files.size_of(self.path)


def at_work(run: Run, held_here: bool = False) -> str:
    """How a process is at work on a run or waits to be, in words; "" where none does, however damaged its files are.

    Args:
        run: the run.
        held_here: it is the caller who holds the directory.
    """
    state = run.written_state()
    if state.active and state.pid is not None and alive(state):
        return state.status
    if state.status == "unreadable" and is_here(process_of(run)):
        return "at work"
    return "at work" if not held_here and run.is_held() else ""


def process_of(run: Run) -> State:
    """Which process took a run up, as far as that is written beside its state."""
    try:
        return documents.state_of(run.path, PROCESS)
    except ComeError:
        return State()


def sources_of(config: RunConfig) -> dict[str, str]:
    """Fingerprints of its model and its text, as they are now."""
    return {"model": source_fingerprint(config.model), "text": source_fingerprint(config.text)}
