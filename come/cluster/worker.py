"""The side of a run that is on the cluster: a Ray actor that executes runs one after the other.

Its other methods answer in threads of their own while it works: which files there are, what is in them.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from come import __version__
from come.cluster.mirror import CHUNK, Stamps, UrlFolder, fetch, send, stamps_of
from come.errors import ComeError
from come.request import RunConfig
from come.runs.cluster_target import ClusterTarget
from come.runs.execute import RunFault, execute
from come.runs.state import State
from come.runs.store import Run

BEAT = 2.0  # seconds between two looks at what is to be sent


@dataclass(frozen=True)
class Greeting:
    """Who a worker is, and whether it sees the directories of the runs."""

    host: str
    python: str
    come: str
    sees: bool


class Worker:
    """Executes runs in the directories that it sees, or in copies of them in a temporary folder."""

    def __init__(self, place: ClusterTarget) -> None:
        """Take a place's settings."""
        self.place = place
        self.runs: list[Run] = []
        self.homes: dict[str, Path] = {}  # the runs' directories on the other side
        self.owners: dict[str, State] = {}  # which process there sees to them
        self.folder: Path | None = None
        self._known: dict[str, Stamps] = {}

    def meet(self, runs: Mapping[Path, State]) -> Greeting:
        """Say who this is; runs are the directories on the other side, and what their states say."""
        sees = self.place.files == "auto" and all(_same(Run(path), state) for path, state in runs.items())
        self.runs = [Run(path) for path in runs] if sees else []
        self.homes = {path.name: path for path in runs}
        self.owners = {path.name: state for path, state in runs.items()} if sees else {}
        return Greeting(socket.gethostname(), platform.python_version(), __version__, sees)

    def unpack(self, runs: Mapping[str, Mapping[str, bytes]]) -> dict[str, Stamps]:
        """Make the runs' directories here, of their files by id and name; returns the stamps that they have now."""
        parent = self._make_folder()
        for run_id, files in runs.items():
            for name, content in files.items():
                path = parent / run_id / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.runs.append(Run(parent / run_id))
        return {run.id: stamps_of(run.path) for run in self.runs}

    def download(self, run_ids: Sequence[str]) -> None:
        """Make the runs' directories here, of their files at the place's URL."""
        parent = self._make_folder()
        for run_id in run_ids:
            path = parent / run_id
            path.mkdir()
            fetch(UrlFolder(f"{self.place.url}/{run_id}"), path, {})
            self._known[run_id] = stamps_of(path)
            self.runs.append(Run(path))

    def work(self) -> None:
        """Execute the runs, one after the other, loading what they share once. How each ends is in its state."""
        import torch

        from come.cluster.layers import layers_on_ray
        from come.runs.shared import Shared

        torch.set_num_threads(self.place.cpus)
        shared = Shared()
        with layers_on_ray(self.place.layer_gpus, self.place.retries), self._now_and_then():
            for run in self.runs:
                if not run.written_state().active:
                    continue
                missing = missing_here(run.config)
                if missing is not None:
                    run.update(status="failed", error=missing.what, hint=missing.hint, finished=time.time())
                    continue
                with suppress(ComeError, RunFault, KeyboardInterrupt):
                    execute(run, shared=shared, delegated=True)
                hint = run.written_state().hint
                if str(run.path) in hint:
                    run.update(hint=hint.replace(str(run.path), str(self.homes[run.id])))

    def stamps(self) -> dict[str, Stamps]:
        """Of every run, the files that there are."""
        return {run.id: stamps_of(run.path) for run in self.runs}

    def read(self, run_id: str, name: str, start: int) -> bytes | None:
        """A piece of a file of a run; None where it is gone by now."""
        try:
            with (self._path(run_id) / name).open("rb") as file:
                file.seek(start)
                return file.read(CHUNK)
        except FileNotFoundError:
            return None

    def ask(self, run_id: str, request: str) -> None:
        """Leave a request (``CANCEL_REQUEST``, ``STOP_REQUEST``) in a run's directory."""
        (self._path(run_id) / request).touch()

    def close(self) -> None:
        """Remove the copies of the runs."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, run_id: str) -> Path:
        return next(run.path for run in self.runs if run.id == run_id)

    def _make_folder(self) -> Path:
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="come-runs-"))
        return self.folder

    @contextmanager
    def _now_and_then(self) -> Iterator[None]:
        """Within, files go to the place's URL, if there is one: every few seconds and at the end."""
        over = threading.Event()

        def beat() -> None:
            while not over.wait(BEAT):
                with suppress(ComeError, OSError):  # it is tried again, and the last time tells
                    self._send()
                if any(self._taken_over(run) for run in self.runs):
                    os._exit(1)  # two workers must not write to one directory

        thread = threading.Thread(target=beat, name="now-and-then", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self._send()

    def _send(self) -> None:
        for run in self.runs if self.place.url is not None else ():
            there = UrlFolder(f"{self.place.url}/{run.id}")
            send(run.path, there, self._known.setdefault(run.id, {}))

    def _taken_over(self, run: Run) -> bool:
        """Whether another process sees to the run by now: ours was killed, and Ray does not know yet."""
        here, owner = run.written_state(), self.owners.get(run.id)
        return owner is not None and here.pid is not None and here.active and not _same_owner(here, owner)


def missing_here(config: RunConfig) -> ComeError | None:
    """What to tell of a file or folder that a request names and this machine does not have."""
    texts = {config.text, config.evaluated_on, config.recovered_on}
    named = [("model", config.model), *(("text", text) for text in sorted(texts))]
    named += [("task", task) for task in config.tasks if "acc" in config.evaluate]
    for what, name in named:
        if Path(name).is_absolute() and not Path(name).exists():
            return ComeError(
                f"The worker {socket.gethostname()} does not have the run's {what} {name}.",
                "Put it there at the same path or in a folder that all machines share, or name one of the hub.",
            )
    return None


def _same(run: Run, state: State) -> bool:
    """Whether the directory of that name here is the one that is meant: its state names the same process."""
    return _same_owner(run.written_state(), state)


def _same_owner(one: State, other: State) -> bool:
    return (one.host, one.pid, one.process_started) == (other.host, other.pid, other.process_started)
