"""The room on the disk that visitors' runs may take: the oldest ended ones go when a new one needs it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from come.errors import ComeError
from come.files import human_bytes
from come.runs.run import Run
from come.runs.store import delete, list_runs
from come.serving import side_jobs

LEAVE_FREE = 512 << 20  # bytes of the disk


def make_room(
    folder: Path,
    visit: str,
    needed: int,
    visit_bytes: int,
    all_bytes: int,
    keep: Iterable[Run] = (),
    visit_runs: int = 1 << 30,
    all_runs: int = 1 << 30,
) -> None:
    """Remove the oldest ended runs of visitors until so many bytes of one visit fit in, and no more runs than may be.

    Runs that are nobody's (the host's own, and those of a machine's owner) are neither counted nor removed.

    Args:
        folder: the folder of runs.
        visit: whose bytes they will be (``State.visit``).
        needed: how many.
        visit_bytes: that the runs of one visit may take with all that is packed of them.
        all_bytes: those of all visits.
        keep: runs that must stay.
        visit_runs, all_runs: how many there may be before: every page reads them all.

    Raises:
        ComeError: there is no room even so.
    """
    kept = {run.id for run in keep}
    held = _held(folder)
    removable = [run for run in reversed(list(held)) if run.id not in kept and _is_over(run)]  # oldest first

    def lacks_own() -> bool:
        sizes = [size for whose, size in held.values() if whose == visit]
        return sum(sizes) + needed > visit_bytes or len(sizes) > visit_runs

    def lacks_any() -> bool:
        return (
            sum(size for _, size in held.values()) + needed > all_bytes
            or len(held) > all_runs
            or shutil.disk_usage(folder).free < needed + LEAVE_FREE
        )

    own = [run for run in removable if held[run][0] == visit]
    for lacks, candidates in ((lacks_own, own), (lacks_any, removable)):
        for run in candidates:
            if not lacks():
                break
            with suppress(ComeError):  # somebody has just gone on with it
                if run in held:
                    delete(run)
                    del held[run]
    if lacks_own():
        raise ComeError(
            f"This needs {human_bytes(needed)} on the disk, and the runs of one visit may take "
            f"{human_bytes(visit_bytes)} here.",
            "Delete runs of yours, or ask for less.",
        )
    if lacks_any():
        raise ComeError(
            f"This needs {human_bytes(needed)} on the disk, which visitors' runs have used up.", "Try again later."
        )


def _held(folder: Path) -> dict[Run, tuple[str, int]]:
    """Visitors' runs, newest first: whose, and how many bytes."""
    states = ((run, run.written_state().visit) for run in list_runs(folder))
    return {run: (visit, run.size_bytes()) for run, visit in states if visit}


def _is_over(run: Run) -> bool:
    """Whether nothing is at work on a run, or packs it."""
    return not run.state().active and not side_jobs.at_work(run)
