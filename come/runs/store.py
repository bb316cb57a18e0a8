"""A run is a directory: everything that another process needs of it lies there, in files replaced whole."""

from __future__ import annotations

import difflib
import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from come import files, reading, settings
from come.errors import ComeError
from come.request import RunConfig, checked
from come.runs import documents
from come.runs.state import LONGEST, State, alive, is_here
from come.source_fingerprint import source_fingerprint

if TYPE_CHECKING:
    from come.measurement.measurement import Measurement
    from come.plan.plan import Plan

QUEUE_LOCK = ".queue"  # in a folder of runs: held by the one run that executes
WORK_LOCK = ".work"  # in a run: held by the process that is at work in it, while it lives
SECONDS_TO_LAUNCH = 60.0  # a run that waits without a process for longer than this was never launched
HANDS_LOCK = ".hands"  # in a run: held while it is decided who works on it
PROCESS = ".process"  # in a run: which process took it up, for when state.json is damaged
CANCEL_REQUEST = "cancel"  # in a run: somebody asked for it to end
MODEL = "model"  # in a run: the pruned model, a plain Transformers folder
TAKEAWAY = "takeaway"  # in a run: what was packed of it for download
STOP_REQUEST = "stop"  # in a run: somebody asked for its training to end early, keeping the best


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
        return not known or known == _sources(self.config)

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
        return size_of(self.path)


class Admission(Protocol):
    """What may be asked for, as a server that is open to others hands it in: ``come.serving.limits.Limits``."""

    @property
    def run_minutes_at_most(self) -> float | None:
        """How long a run may work, after which it is stopped; None for any time."""

    def check_run(self, config: RunConfig) -> None:
        """Refuse a run that asks for too much, by a ``ComeError``."""

    def admitted(
        self, requests: Sequence[RunConfig], runs: Path | None, visit: str = "", but: str = ""
    ) -> AbstractContextManager[None]:
        """Refuse requests that come together, or hold the place where they are let in until they are queued."""


def create(
    config: RunConfig,
    runs: Path | None = None,
    folder: Path | None = None,
    refused: ComeError | None = None,
    allowed: Admission | None = None,
    visit: str = "",
) -> Run:
    """A new run, queued, that no process works on yet (``launch`` or ``execute`` it).

    Args:
        config: what to do; checked first, so that a bad request leaves nothing behind.
        runs: the folder of runs (``settings.runs_dir()``).
        folder: a directory for this run alone instead, outside any folder of runs and its queue.
        refused: why the request cannot succeed, where it is to be there all the same, as a failed run.
        allowed: what may be asked for; everything, by default.
        visit: whose it is, where visitors are strangers; see ``State.visit``.

    Raises:
        ComeError: the request cannot succeed, or the folder cannot be written.
    """
    if refused is None and allowed is not None:
        allowed.check_run(config)
        if not config.sweep:  # the cells of a sweep are one request: `prepare` asks for them all
            with allowed.admitted([config], runs, visit):
                return _created(config, runs, folder, None, _seconds(allowed), visit)
    return _created(config, runs, folder, refused, _seconds(allowed), visit)


def _seconds(allowed: Admission | None) -> float | None:
    minutes = None if allowed is None else allowed.run_minutes_at_most
    return None if minutes is None else 60 * minutes


def _created(
    config: RunConfig,
    runs: Path | None,
    folder: Path | None,
    refused: ComeError | None,
    seconds_at_most: float | None,
    visit: str,
) -> Run:
    config, layers = (config, config.target_layers) if refused else checked(config)
    created = time.time()
    state = State(created=created, sources=_sources(config), visit=visit, seconds_at_most=seconds_at_most)
    if refused is not None:
        ended = {"status": "failed", "error": refused.what, "hint": refused.hint, "finished": created, "sources": {}}
        state = state.model_copy(update=ended)
    if folder is None:
        parent = runs or settings.runs_dir()
        target = parent / _new_id(config, layers, created)
    else:
        target = folder.expanduser()
        parent = target.parent
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ComeError(f"{target} exists and is not empty.", "Choose another folder.")
    with files.disk_faults(parent):
        parent.mkdir(parents=True, exist_ok=True)
        if folder is None:
            (parent / QUEUE_LOCK).touch()
            _sweep(parent)
        _appear(target, config, state)
    return Run(target.resolve())


def find(name: str, runs: Path | None = None) -> Run:
    """The run of that id, or the only one whose id starts like that.

    Raises:
        ComeError: there is none, or several.
    """
    known = {run.id: run for run in list_runs(runs)}
    if name in known:
        return known[name]
    starting = [run_id for run_id in known if name and run_id.startswith(name)]
    if len(starting) == 1:
        return known[starting[0]]
    if starting:
        raise ComeError(f"Several runs start with {name!r}: {', '.join(starting[:3])}.", "Give more of the id.")
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`come runs` lists those there are."
    raise ComeError(f"There is no run {name!r} in {runs or settings.runs_dir()}.", hint)


def list_runs(runs: Path | None = None) -> list[Run]:
    """All runs of a folder, newest first; no folder is no runs."""
    folder = runs or settings.runs_dir()
    if not folder.is_dir():
        return []
    try:
        found = [Run(Path(entry.path).resolve()) for entry in os.scandir(folder) if _is_run(entry)]
    except OSError as error:
        raise reading.unreadable(folder, error.strerror or "it cannot be looked into") from error
    return sorted(found, key=lambda run: run.id, reverse=True)


def _is_run(entry: os.DirEntry[str]) -> bool:
    """Whether a directory holds a run, of whatever kind its files are, or may not be looked into.

    A link to one is none: what it leads to is somebody else's, and not to be deleted here.
    """
    try:
        if entry.name.startswith(".") or not entry.is_dir(follow_symlinks=False):
            return False
        return documents.is_run(entry.path)
    except PermissionError:
        return True
    except (OSError, ValueError):
        return False


def size_of(folder: Path) -> int:
    """What a folder takes on disk, in bytes; none takes nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it went away meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


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


def delete(run: Run) -> None:
    """Remove a run with all its files, damaged ones too.

    Raises:
        ComeError: a process is at work on it, or a file of it cannot be removed.
    """
    with ExitStack() as held:
        with suppress(ComeError):  # where no lock can be taken, none is held
            held.enter_context(files.locked(run.path / HANDS_LOCK))
        if what := at_work(run):
            raise ComeError(f"The run {run.id} is {what}.", "Cancel it first.")
        with files.disk_faults(run.path.parent):
            # It leaves the list at once, even if removing a large model takes a while.
            hidden = run.path.rename(run.path.with_name(f".deleted-{run.id}-{secrets.token_hex(4)}"))
    with files.disk_faults(run.path.parent):
        files.remove_folder(hidden)


def _sources(config: RunConfig) -> dict[str, str]:
    return {"model": source_fingerprint(config.model), "text": source_fingerprint(config.text)}


def _sweep(runs: Path) -> None:
    """Remove what killed processes left in a folder of runs: directories half made, or half deleted."""
    for path in [*runs.glob(".deleted-*"), *runs.glob(".new-*")]:
        with suppress(OSError):
            if path.name.startswith(".deleted-") or time.time() - path.stat().st_mtime > SECONDS_TO_LAUNCH:
                files.remove_folder(path)


def _new_id(config: RunConfig, layers: int | None, created: float) -> str:
    """An id that sorts by time and says what the run is: 20261122-141530-come-27-x7k2."""
    when = time.strftime("%Y%m%d-%H%M%S", time.gmtime(created))
    what = "analyze" if layers is None else f"{config.method}-{layers}"
    tail = "".join(secrets.choice("abcdefghjkmnpqrstuvwxyz23456789") for _ in range(4))
    return f"{when}-{what}-{tail}"


def _appear(target: Path, config: RunConfig, state: State) -> None:
    """Make the directory with its first files, whole or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".new-") as temporary:
        folder = Path(temporary) / "run"
        folder.mkdir()
        files.replace(folder / documents.CONFIG, config.model_dump_json(indent=1))
        known = state.model_copy(update={"request": documents.request_id(folder)})
        files.replace(folder / documents.STATE, known.model_dump_json(indent=1))
        folder.replace(target)
