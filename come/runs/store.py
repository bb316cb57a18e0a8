"""The folder of runs: making one, finding it, listing them, deleting one."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from typing import Protocol

from come import files, reading, settings
from come.errors import ComeError, did_you_mean
from come.request import RunConfig, checked
from come.runs import documents
from come.runs.run import HANDS_LOCK, SECONDS_TO_LAUNCH, Run, at_work, sources_of
from come.runs.state import State

QUEUE_LOCK = ".queue"  # in a folder of runs: held by the one run that executes


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
    state = State(created=created, sources=sources_of(config), visit=visit, seconds_at_most=seconds_at_most)
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
    hint = did_you_mean(name, known, "`come runs` lists those there are.", most=3, cutoff=0.4)
    raise ComeError(f"There is no run {name!r} in {runs or settings.runs_dir()}.", hint)


def list_runs(runs: Path | None = None) -> list[Run]:
    """All runs of a folder, newest first; no folder is no runs."""
    folder = runs or settings.runs_dir()
    try:
        found = [Run(Path(entry.path).resolve()) for entry in os.scandir(folder) if _is_run(entry)]
    except FileNotFoundError:
        return []
    except OSError as error:
        hint = "Check it, or name another folder of runs: --runs, or COME_RUNS."
        raise reading.unreadable(folder, error.strerror or "it cannot be looked into", hint) from error
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


def delete(run: Run) -> None:
    """Remove a run with all its files, damaged ones too.

    Raises:
        ComeError: a process is at work on it, or a file of it cannot be removed.
    """
    with ExitStack() as held:
        with suppress(ComeError, OSError):  # where no lock can be taken, none is held
            held.enter_context(files.locked(run.path / HANDS_LOCK))
        if what := at_work(run):
            raise ComeError(f"The run {run.id} is {what}.", "Cancel it first.")
        with files.disk_faults(run.path.parent):
            # It leaves the list at once, even if removing a large model takes a while.
            hidden = run.path.rename(run.path.with_name(f".deleted-{run.id}-{secrets.token_hex(4)}"))
    with files.disk_faults(run.path.parent):
        files.remove_folder(hidden)


def _sweep(runs: Path) -> None:
    """Remove what killed processes left in a folder of runs: directories half made, or half deleted."""
    for path in [*runs.glob(".deleted-*"), *runs.glob(f"{files.HALF_MADE}*")]:
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
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=files.HALF_MADE) as temporary:
        folder = Path(temporary) / "run"
        folder.mkdir()
        files.replace(folder / documents.CONFIG, config.model_dump_json(indent=1))
        known = state.model_copy(update={"request": documents.request_id(folder)})
        files.replace(folder / documents.STATE, known.model_dump_json(indent=1))
        folder.replace(target)
