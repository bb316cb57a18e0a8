"""`come track`, and what `--track` does after a run: finished runs, told to an experiment tracker."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer

from come.cli.request import Runs, named_run
from come.cli.screen import AsJson, show, show_json
from come.errors import ComeError
from come.runs import Run

Track = Annotated[
    str | None,
    typer.Option("--track", help="Tell it to a tracker when it is done: mlflow, trackio or wandb (docs/tracking.md)."),
]


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("track")(track)


def track(
    run: Annotated[
        list[str],
        typer.Argument(help="Finished runs, each by its id, enough of its beginning, or directory.", metavar="RUN"),
    ],
    to: Annotated[str, typer.Option("--to", help="mlflow, trackio or wandb; installed by pip under that name.")],
    project: Annotated[str, typer.Option("--project", help="What they are filed under; mlflow's experiment.")] = "",
    runs: Runs = None,
    as_json: AsJson = False,
) -> None:
    """Tell finished runs to an experiment tracker: what was asked, the numbers on the way, the results of both models.

    Where it goes is the tracker's own setting (MLFLOW_TRACKING_URI, TRACKIO_DIR, WANDB_MODE=offline, a login); without
    any, mlflow and trackio keep it on this machine. Cells of a sweep come as a group.

    [bold]Examples[/bold]

    One run:  come track 20261122-1415 --to mlflow

    A sweep:  come track runs/* --to trackio --project layers
    """
    from come.tracking import PROJECT, check_tracker
    from come.tracking import track as told

    check_tracker(to)
    where = {made.id: told(made, to, project or PROJECT) for made in [named_run(name, runs) for name in run]}
    show_json({"runs": where}) if as_json else show("\n".join(f"{name}: {place}" for name, place in where.items()))


def check_track(tracker: str | None, background: bool) -> None:
    """See that a tracker that was asked for is there, before the work.

    Raises:
        ComeError: it is not, or nobody waits for the run's end.
    """
    if tracker is None:
        return
    if background:
        raise ComeError("--track tells of runs when they end.", "Leave out --background, or use `come track` later.")
    from come.tracking import check_tracker

    check_tracker(tracker)


def tell_afterwards(tracker: str | None, made: Iterable[Run], as_json: bool) -> None:
    """Tell those of some runs that are done to the tracker that was asked for, if any."""
    if tracker is None:
        return
    from come.tracking import track as told

    for run in made:
        if run.state().status == "done":
            place = told(run, tracker)
            if not as_json:
                show(f"{run.id}: {place}")
