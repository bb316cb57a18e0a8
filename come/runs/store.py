"""A run is a directory: everything that another process needs of it lies there, in files replaced whole."""

from __future__ import annotations

import difflib
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from come import files, settings
from come.errors import ComeError
from come.request import RunConfig, checked
from come.runs.state import State, alive
from come.source_fingerprint import source_fingerprint

if TYPE_CHECKING:
    from come.measurement.measurement import Measurement
    from come.plan.plan import Plan

QUEUE_LOCK = ".queue"  # in a folder of runs: held by the one run that executes
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
        try:
            return RunConfig.stored(dict(json.loads((self.path / "config.json").read_text("utf-8"))))
        except (OSError, ValueError, TypeError) as error:
            raise ComeError(f"{self.path} holds no run.") from error

    @property
    def readable(self) -> bool:
        """Whether its request is one that this version reads."""
        try:
            return bool(self.config)
        except ComeError:
            return False

    def state(self) -> State:
        """Where it stands now: interrupted (or cancelled, where that was asked) if its process is gone."""
        state = self.written_state()
        if not state.active or state.pid is None:
            return state
        asked_to_end = (self.path / CANCEL_REQUEST).exists()
        if alive(state):
            return state.model_copy(update={"message": "Cancelling"}) if asked_to_end else state
        # It may have written its last word between the two looks.
        state = self.written_state()
        if not state.active:
            return state
        return state.model_copy(update={"status": "cancelled" if asked_to_end else "interrupted"})

    def written_state(self) -> State:
        """What state.json says, whether or not its process is still there."""
        try:
            return State.model_validate_json((self.path / "state.json").read_text("utf-8"))
        except (OSError, ValueError):
            return State(status="failed", error="The run's state.json cannot be read.")

    def update(self, **changes: Any) -> State:
        """Change fields of state.json, one writer after the other, and return the new state.

        Raises:
            ComeError: the disk is full.
        """
        with files.locked(self.path / ".lock"):
            state = self.written_state().model_copy(update=changes)
            files.replace(self.path / "state.json", state.model_dump_json(indent=1))
        return state

    def sources_unchanged(self) -> bool:
        """Whether its model and its text are still the files that they were when it was asked for."""
        known = self.written_state().sources
        return not known or known == _sources(self.config)

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """What was reported, without the first ``after``: time, stage, step, of, message, values."""
        return files.read_lines(self.path / "events.jsonl")[after:]

    def plan(self) -> Plan | None:
        """The plan so far; None before the first step, and for an analysis."""
        from come.plan.plan import Plan

        path = self.path / "plan.json"
        return Plan.read(path) if path.exists() else None

    def results(self) -> dict[str, Any]:
        """What is known so far: ``results.json``, empty before there is any."""
        try:
            text = (self.path / "results.json").read_text("utf-8")
            # Earlier versions wrote NaN, which tells nothing.
            return dict(json.loads(text, parse_constant=lambda _: None))
        except (OSError, ValueError):
            return {}

    def measurement(self) -> Measurement | None:
        """What an analysis measured; None before it ends, and for a run that prunes."""
        from come.measurement.measurement import Measurement

        path = self.path / "analysis.safetensors"
        return Measurement.load(path) if path.exists() else None

    def log(self) -> str:
        """The run's log: what its process wrote, tracebacks included."""
        path = self.path / "log.txt"
        return path.read_text("utf-8", errors="replace") if path.exists() else ""

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
    found = [path for path in folder.iterdir() if path.name[0] != "." and (path / "config.json").is_file()]
    return [Run(path.resolve()) for path in sorted(found, key=lambda path: path.name, reverse=True)]


def size_of(folder: Path) -> int:
    """What a folder takes on disk, in bytes; none takes nothing."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # it went away meanwhile
            total += path.stat().st_size if path.is_file() else 0
    return total


def delete(run: Run) -> None:
    """Remove a run with all its files.

    Raises:
        ComeError: a process is at work on it, or a file of it cannot be removed.
    """
    state = run.state()
    if state.active and state.pid is not None:
        raise ComeError(f"The run {run.id} is {state.status}.", "Cancel it first.")
    with files.disk_faults(run.path.parent):
        # It leaves the list at once, even if removing a large model takes a while.
        hidden = run.path.rename(run.path.with_name(f".deleted-{run.id}"))
        shutil.rmtree(hidden)


def _sources(config: RunConfig) -> dict[str, str]:
    return {"model": source_fingerprint(config.model), "text": source_fingerprint(config.text)}


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
        files.replace(folder / "config.json", config.model_dump_json(indent=1))
        files.replace(folder / "state.json", state.model_dump_json(indent=1))
        folder.replace(target)
