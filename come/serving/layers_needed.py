"""How few layers sequences of an analysis need, searched in the background: a side job, within so many seconds."""

from __future__ import annotations

import sys
from pathlib import Path

from come.runs import layers_needed
from come.runs.run import Run
from come.serving import side_jobs
from come.serving.side_jobs import SideJob

STATE = side_jobs.NEEDED
STOP = "layers_needed.stop"  # in a run: somebody asked for the job to end
QUEUE = ".aside-windows"  # shared with the measuring of windows: nobody waits for either
SEQUENCES = 4
TOLERANCES = (0.0, 0.1)  # nats a token, that may be chosen


def start(run: Run, tolerance: float, passes: float, seconds: float) -> None:
    """Start the search at a tolerance, for so long at most; one that is at work already is left to it.

    Args:
        run: a finished analysis.
        tolerance: nats a token.
        passes: what it may cost a sequence; as many as the model has layers, two layers at least are tried to go.
        seconds: how long; no sequence is begun that would probably end later, but one always is.

    Raises:
        ComeError: the analysis has not ended well, or its folder cannot be written.
    """
    (run.path / STOP).unlink(missing_ok=True)
    side_jobs.start(run, "come.serving.layers_needed", run.path / STATE, str(tolerance), str(passes), str(seconds))


def searching(run: Run) -> SideJob:
    """How the job stands; what it has found is read by ``come.runs.layers_needed.read`` at any time."""
    return side_jobs.read(run.path / STATE)


def stop(run: Run) -> None:
    """Ask the job to end after the sequence that it is at."""
    (run.path / STOP).touch()


def main() -> None:
    """``python -m come.serving.layers_needed RUN TOLERANCE PASSES SECONDS``."""
    run = Run(Path(sys.argv[1]))
    tolerance, passes, seconds = map(float, sys.argv[2:])
    side_jobs.work(
        run,
        run.path / STATE,
        lambda tell: {
            "sequences": len(
                layers_needed.measure(
                    run,
                    SEQUENCES,
                    tolerance,
                    passes,
                    seconds=seconds,
                    on_progress=lambda event: tell(event.message or event.stage),
                    go_on=side_jobs.giving_way(run, run.path / STOP, tell),
                )
            )
        },
        QUEUE,
    )


if __name__ == "__main__":
    main()
