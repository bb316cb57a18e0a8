"""What a job on the cluster does: it executes runs, one after the other, where it sees them or in copies of them.

Started as ``python -m come.cluster.job ON OWNER RUN...``; what it says beside the runs' own files is in its log.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from come.cluster.connect import MARK
from come.cluster.sync import REQUESTS, RemoteFolder, Stamps, fetch, send
from come.errors import ComeError
from come.events import Event
from come.request import RunConfig
from come.runs.cluster_target import ClusterTarget, cluster_target
from come.runs.execute import RunFault, execute
from come.runs.run import CANCEL_REQUEST, Run
from come.settings import file_and_column

BEAT = 2.0  # seconds between two times that what is new is carried to a URL
ARRIVAL = 300.0  # seconds that files have to arrive


def main() -> None:
    """Do what the command line says; why that cannot be is a line of the log."""
    on, owner, *paths = sys.argv[1:]
    try:
        do(on, json.loads(owner), [Path(path) for path in paths], _say)
    except ComeError as error:
        _say(error=error.what, hint=error.hint)


def do(on: str, owner: dict[str, Any], homes: Sequence[Path], say: Callable[..., None]) -> None:
    """Execute runs.

    Args:
        on: the cluster and its settings, as the user wrote them.
        owner: the fields of the runs' states that name the process, on the submitting machine, which sees to them.
        homes: their directories on that machine, in order.
        say: told the host, and the folder on its disk where the runs' directories are waited for, if anywhere.

    Raises:
        ComeError: their files cannot be had, do not arrive, or cannot be sent.
    """
    target = cluster_target(on)
    assert target is not None
    if target.files == "auto" and all(_is_owned(Run(home), owner) for home in homes):
        say(host=socket.gethostname())
        _execute_all(target, [Run(home) for home in homes], homes)
        return
    folder = Path(tempfile.mkdtemp(prefix="come-runs-"))
    runs = [Run(folder / home.name) for home in homes]
    if target.url is None:
        say(host=socket.gethostname(), folder=str(folder))
        _wait_for(runs)
        _execute_all(target, runs, homes)
        return
    say(host=socket.gethostname())
    try:
        copies = [Copy(run, RemoteFolder(f"{target.url}/{run.id}")) for run in runs]
        _execute_all(target, runs, homes, copies)
        for copy in copies:
            copy.carry()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Copy:
    """A run's directory here, kept at a URL as well."""

    def __init__(self, run: Run, there: RemoteFolder) -> None:
        """Fetch the run's files."""
        self.run, self.there, self.known, self.carried = run, there, Stamps(), 0.0
        run.path.mkdir()
        fetch(there, run.path, {})

    def __call__(self, _: Event) -> None:
        """Carry what is new, now and then: what fails is tried again, and the last time tells."""
        if time.monotonic() - self.carried > BEAT:
            with suppress(ComeError, OSError):
                self.carry()
            self.carried = time.monotonic()

    def carry(self) -> None:
        """Send what changed, and take over what was asked for."""
        send(self.run.path, self.there, self.known)
        for request in set(REQUESTS) & set(self.there.stamps()):
            (self.run.path / request).touch()


def _execute_all(
    target: ClusterTarget, runs: Sequence[Run], homes: Sequence[Path], copies: Sequence[Copy | None] = ()
) -> None:
    """Execute runs, loading what they share once. How each ends is in its state."""
    import torch

    from come.cluster.layers import layers_on_ray
    from come.runs.shared import Shared

    torch.set_num_threads(target.cpus)
    shared = Shared()
    with layers_on_ray(target.layer_gpus, target.retries):
        for run, home, copy in zip(runs, homes, copies or [None] * len(runs), strict=True):
            if not run.written_state().active:
                continue
            missing = missing_here(run.config)
            if missing is not None:
                run.update(status="failed", error=missing.what, hint=missing.hint, finished=time.time())
                continue
            try:
                with suppress(ComeError, RunFault):
                    execute(run, copy, shared, delegated=True)
            except KeyboardInterrupt:
                if not (run.path / CANCEL_REQUEST).exists():
                    return  # it is the job that was stopped, not this run
            hint = run.written_state().hint
            if str(run.path) in hint:
                run.update(hint=hint.replace(str(run.path), str(home)))


def missing_here(config: RunConfig) -> ComeError | None:
    """What to tell of a file or folder that a request names and this machine does not have."""
    texts = {config.text, config.evaluated_on, config.recovered_on}
    named = [("model", config.model), *(("text", text) for text in sorted(texts))]
    named += [("task", task) for task in config.tasks if config.asks_questions]
    for what, name in named:
        path = Path(file_and_column(name)[0] if what == "text" else name)
        if path.is_absolute() and not path.exists():
            return ComeError(
                f"The worker {socket.gethostname()} does not have the run's {what} {path}.",
                "Put it there at the same path or in a folder that all machines share, or name one of the hub.",
            )
    return None


def _is_owned(run: Run, owner: dict[str, Any]) -> bool:
    """Whether the directory of that name here is the one that is meant: its state names that process."""
    return run.written_state().model_dump(include=set(owner)) == owner


def _wait_for(runs: Sequence[Run]) -> None:
    until = time.monotonic() + ARRIVAL
    while not all((run.path / "state.json").exists() for run in runs):
        if time.monotonic() > until:
            raise ComeError("The runs' files did not arrive on the cluster.", "Resume it.")
        time.sleep(0.2)


def _say(**words: str) -> None:
    sys.stdout.write(f"{MARK}{json.dumps(words)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
