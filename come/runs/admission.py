"""Who may start runs where strangers ask: what is allowed is looked at by one request after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from come import files, settings
from come.errors import ComeError
from come.request import RunConfig
from come.runs.run import Run
from come.runs.store import list_runs

LOCK = ".admission"  # in a folder of runs: held while a request is let in


class Bounds(Protocol):
    """What may be asked for: ``come.serving.limits.Limits``, whose ``admitted`` calls what is below."""

    def check_request(self, requests: Sequence[RunConfig], others: int, own: int = 0) -> None:
        """Refuse requests that come together, or to queue them behind so many others, by a ``ComeError``.

        ``own`` of the others are of the visit that asks.
        """

    def check_foreseen(self, requests: Sequence[RunConfig], runs: Path | None = None) -> int:
        """Refuse requests that would take too long, by a ``ComeError``; the bytes that they will leave on the disk."""

    def make_room(self, runs: Path, visit: str, needed: int) -> None:
        """See to it that a visit has room on the disk for so many bytes, or refuse it by a ``ComeError``."""


@contextmanager
def admitted(
    requests: Sequence[RunConfig], runs: Path | None, allowed: Bounds, visit: str = "", but: str = ""
) -> Iterator[None]:
    """Checks requests that come together; then no others are let in until the block ends, which is to queue them.

    Args:
        requests: what is asked for.
        runs: the folder of runs.
        allowed: what may be.
        visit: whose request it is.
        but: a sweep that does not count among those at work or waiting.

    Raises:
        ComeError: it is more than is allowed.
    """

    def check() -> None:
        others = active_requests(runs, but)
        allowed.check_request(requests, len(others), sum(whose == visit for whose in others.values()) if visit else 0)

    check()  # what is refused leaves nothing behind, not even the folder
    needed = allowed.check_foreseen(requests, runs)
    folder = runs or settings.runs_dir()
    with files.disk_faults(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with files.locked(folder / LOCK):
        check()
        allowed.make_room(folder, visit, needed)
        yield


def active_requests(runs: Path | None = None, but: str = "") -> dict[str, str]:
    """Whose the requests are that are at work or waiting in a folder of runs, by their names; a sweep counts once.

    Args:
        runs: the folder of runs.
        but: a sweep that is not counted.
    """
    found: dict[str, str] = {}
    for run in list_runs(runs):
        state = run.state()
        if state.active:
            with suppress(ComeError):
                found[_request(run)] = state.visit
    return {name: whose for name, whose in found.items() if name != but}


def _request(run: Run) -> str:
    return run.config.sweep or run.id
