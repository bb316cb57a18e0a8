"""What a job on the cluster does: it executes runs, one after the other, where it sees them or in copies of them.

Started as ``python -m come.cluster.job SPEC``; what it has to say beside the runs' own files are lines of its log.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from come.cluster.sync import REQUESTS, RemoteFolder, Stamps, fetch, send
from come.errors import ComeError
from come.request import RunConfig
from come.runs.cluster_target import ClusterTarget, cluster_target
from come.runs.execute import RunFault, execute
from come.runs.store import CANCEL_REQUEST, Run

BEAT = 2.0  # seconds between two looks at what is to be carried
ARRIVAL = 300.0  # seconds that files have to arrive
MARK = "come-job "  # begins a line of the log that the submitting process reads


class JobSpec(BaseModel):
    """What a job is given.

    Attributes:
        on: the cluster and its settings, as the user wrote them.
        runs: the runs' directories on the submitting machine, in order.
        owner: the fields of their states that name the process there which sees to them.
    """

    on: str
    runs: list[Path]
    owner: dict[str, Any]


class Told(BaseModel):
    """What a job says in its log: where it is, and where the runs' files are to be put; or what is wrong.

    Attributes:
        host: its machine.
        folder: on that machine's disk, where it waits for the runs' directories; None where it needs nobody to.
        error, hint: why it cannot do its part.
    """

    host: str
    folder: Path | None = None
    error: str = ""
    hint: str = ""


def main() -> None:
    """Do what the first argument says."""
    spec = JobSpec.model_validate_json(sys.argv[1])
    try:
        do(spec, print)
    except ComeError as error:
        _say(print, error=error.what, hint=error.hint)


def do(spec: JobSpec, say: Callable[..., None]) -> None:
    """Execute a job's runs; ``say`` takes lines of the log.

    Raises:
        ComeError: their files cannot be had, or do not arrive.
    """
    target = cluster_target(spec.on)
    assert target is not None
    if target.files == "auto" and all(_is_owned(Run(path), spec.owner) for path in spec.runs):
        _say(say)
        with _every_beat(lambda: _leave_if_taken_over(spec)):
            _execute_all(target, [Run(path) for path in spec.runs], spec.runs)
        return
    folder = Path(tempfile.mkdtemp(prefix="come-runs-"))
    runs = [Run(folder / path.name) for path in spec.runs]
    if target.url is None:
        _say(say, folder=str(folder))
        _wait_for(runs)
        _execute_all(target, runs, spec.runs)
        return
    _say(say)
    try:
        copies = [_Copy(run, RemoteFolder(f"{target.url}/{run.id}")) for run in runs]
        with _every_beat(*(copy.update for copy in copies)):
            _execute_all(target, runs, spec.runs)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _execute_all(target: ClusterTarget, runs: Sequence[Run], homes: Sequence[Path]) -> None:
    """Execute runs, loading what they share once. How each ends is in its state."""
    import torch

    from come.cluster.layers import layers_on_ray
    from come.runs.shared import Shared

    torch.set_num_threads(target.cpus)
    shared = Shared()
    with layers_on_ray(target.layer_gpus, target.retries):
        for run, home in zip(runs, homes, strict=True):
            if not run.written_state().active:
                continue
            missing = missing_here(run.config)
            if missing is not None:
                run.update(status="failed", error=missing.what, hint=missing.hint, finished=time.time())
                continue
            try:
                with suppress(ComeError, RunFault):
                    execute(run, shared=shared, delegated=True)
            except KeyboardInterrupt:
                if not (run.path / CANCEL_REQUEST).exists():
                    return  # it is the job that was stopped, not this run
            hint = run.written_state().hint
            if str(run.path) in hint:
                run.update(hint=hint.replace(str(run.path), str(home)))


class _Copy:
    """A run's directory here, kept at a URL as well."""

    def __init__(self, run: Run, there: RemoteFolder) -> None:
        self.run, self.there, self.known = run, there, Stamps()
        run.path.mkdir()
        fetch(there, run.path, {})

    def update(self) -> None:
        """Send what changed, and take over what was asked for."""
        send(self.run.path, self.there, self.known)
        for request in REQUESTS:
            if not (self.run.path / request).exists() and request in self.there.stamps():
                (self.run.path / request).touch()


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


@contextmanager
def _every_beat(*work: Callable[[], None]) -> Iterator[None]:
    """Within, something is done every few seconds, and once more at the end."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(BEAT):
            for each in work:
                with suppress(ComeError, OSError):  # it is tried again, and the last time tells
                    each()

    thread = threading.Thread(target=beat, name="every-beat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        for each in work:
            each()


def _leave_if_taken_over(spec: JobSpec) -> None:
    """End at once where another process sees to a run by now: two must not write to one directory."""
    for path in spec.runs:
        run = Run(path)
        if run.written_state().active and not _is_owned(run, spec.owner):
            os._exit(0)


def _is_owned(run: Run, owner: dict[str, Any]) -> bool:
    """Whether the directory of that name here is the one that is meant: its state names that process."""
    return run.written_state().model_dump(include=set(owner)) == owner


def _wait_for(runs: Sequence[Run]) -> None:
    until = time.monotonic() + ARRIVAL
    while not all((run.path / "state.json").exists() for run in runs):
        if time.monotonic() > until:
            raise ComeError("The runs' files did not arrive on the cluster.", "Resume it.")
        time.sleep(BEAT / 10)


def _say(say: Callable[..., None], **words: Any) -> None:
    say(MARK + Told(host=socket.gethostname(), **words).model_dump_json(), flush=True)


if __name__ == "__main__":
    main()
