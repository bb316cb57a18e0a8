"""What merging windows costs, found out in the background: a side job of an analysis, within so many seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from come.events import Event
from come.runs import window_costs
from come.runs.run import Run
from come.serving import side_jobs
from come.serving.side_jobs import SideJob

if TYPE_CHECKING:
    from come.pruning.windows import Window

STATE = side_jobs.WINDOWS
STOP = "window_costs.stop"  # in a run: somebody asked for the job to end
QUEUE = ".aside-windows"  # apart from jobs that somebody waits for


def start(run: Run, sizes: Sequence[int], seconds: float, only: Window | None = None) -> None:
    """Start measuring windows of these sizes, for so long at most; one that is at work already is left to it.

    Args:
        run: a finished analysis.
        sizes: how many layers windows have.
        seconds: how long.
        only: this window alone, whatever the sizes are.

    Raises:
        ComeError: the analysis has not ended well, or its folder cannot be written.
    """
    (run.path / STOP).unlink(missing_ok=True)
    wanted = ",".join(map(str, sizes)) if only is None else f"{only[0]}-{only[1]}"
    side_jobs.start(run, "come.serving.window_costs", run.path / STATE, wanted, str(seconds))


def measuring(run: Run) -> SideJob:
    """How the job stands; what it has found is read by ``come.runs.window_costs.read`` at any time."""
    return side_jobs.read(run.path / STATE)


def stop(run: Run) -> None:
    """Ask the job to end after the window that it is at."""
    (run.path / STOP).touch()


def _job(run: Run, wanted: str, seconds: float, tell: Callable[[str], None]) -> dict[str, Any]:
    def told(event: Event) -> None:
        tell(event.message or event.stage)

    first, one, last = wanted.partition("-")
    only = (int(first), int(last)) if one else None
    sizes = [] if only else [int(size) for size in wanted.split(",")]
    go_on = side_jobs.giving_way(run, run.path / STOP, tell)
    return {"windows": window_costs.measure(run, sizes, seconds=seconds, only=only, on_progress=told, go_on=go_on)}


def main() -> None:
    """``python -m come.serving.window_costs RUN SIZES SECONDS``; a window, such as 10-18, in the place of sizes."""
    run = Run(Path(sys.argv[1]))
    side_jobs.work(run, run.path / STATE, lambda tell: _job(run, sys.argv[2], float(sys.argv[3]), tell), QUEUE)


if __name__ == "__main__":
    main()
