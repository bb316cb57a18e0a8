"""A finished run, told to an experiment tracker: its request, the numbers of its events, its results.

Trackers are extras: ``pip install mlflow``, ``trackio`` or ``wandb``. Each goes by its own settings (its
environment variables, its login), and keeps things locally where none are given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from typing import Any

from come.errors import ComeError
from come.runs import Run

PROJECT = "come-lab"
Point = tuple[float, dict[str, float]]  # when (unix seconds), and numbers by name


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told of a run.

    Attributes:
        name: the run's id.
        group: the sweep that it is a cell of; "" for none.
        params: what was asked for, by name; nested names have dots.
        points: the numbers of its events in order; each becomes a step.
        summary: what was measured of both models, such as "pruned/perplexity".
        started, finished: unix seconds.
    """

    name: str
    group: str
    params: dict[str, str | float | bool]
    points: list[Point]
    summary: dict[str, float]
    started: float
    finished: float


def tracked(run: Run) -> Tracked:
    """What is told of a finished run.

    Raises:
        ComeError: it has not come to its end, or a file of it is damaged.
    """
    run.check()
    state, config = run.state(), run.config
    if state.status != "done":
        raise ComeError(f"The run {run.id} is {state.status}.", "Only finished runs are told to a tracker.")
    results, events = run.results(), run.events()
    asked = {name: value for name, value in config.model_dump(mode="json").items() if value not in (None, [], {}, "")}
    told_of = ("original", "unrecovered", "pruned", "seconds")
    models: dict[str, Any] = {name: results[name] for name in told_of if name in results}
    points = [(float(event["time"]), told) for event in events if (told := _point(event.get("values") or {}))]
    return Tracked(
        name=run.id,
        group=config.sweep or "",
        params=_flat(asked, "."),
        points=points,
        summary=_numbers(models, "/"),
        started=state.started or state.created,
        finished=state.finished or state.created,
    )


def _flat(values: Mapping[str, Any], between: str, before: str = "") -> dict[str, str | float | bool]:
    """Nested values by one name each; a list is written out."""
    found: dict[str, str | float | bool] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, between, f"{before}{name}{between}")
        else:
            found[f"{before}{name}"] = value if isinstance(value, str | int | float | bool) else str(value)
    return found


def _numbers(values: Mapping[str, Any], between: str) -> dict[str, float]:
    """The numbers among nested values; what is counted by sequence or question is left out."""
    flat = _flat(values, between)
    return {name: float(value) for name, value in flat.items() if type(value) in (int, float)}


def _point(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an event; a tracker counts steps itself."""
    return _numbers({name: value for name, value in values.items() if name != "step"}, "/")


# --- trackers ----------------------------------------------------------------------------------------


def _to_mlflow(told: Tracked, project: str) -> str:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient()
    known = client.get_experiment_by_name(project)
    experiment = known.experiment_id if known else client.create_experiment(project)
    if client.search_runs([experiment], f"tags.`come.run` = '{told.name}'", max_results=1):
        return _there_already(told)
    tags = {"come.run": told.name, **({"come.sweep": told.group} if told.group else {})}
    made = client.create_run(experiment, _milliseconds(told.started), tags=tags, run_name=told.name)
    metrics = [
        Metric(name, value, _milliseconds(when), step)
        for step, (when, numbers) in enumerate(told.points)
        for name, value in numbers.items()
    ]
    metrics += [Metric(name, value, _milliseconds(told.finished), 0) for name, value in told.summary.items()]
    params = [Param(name, str(value)[:500]) for name, value in told.params.items()]
    for first in range(0, len(metrics), _A_BATCH):
        client.log_batch(made.info.run_id, metrics=metrics[first : first + _A_BATCH])
    client.log_batch(made.info.run_id, params=params, tags=[RunTag(name, value) for name, value in tags.items()])
    client.set_terminated(made.info.run_id, end_time=_milliseconds(told.finished))
    return f"mlflow's experiment {project}, run {made.info.run_id} (look at it with: mlflow ui)"


def _to_trackio(told: Tracked, project: str) -> str:
    import trackio

    trackio.init(
        project=project,
        name=told.name,
        group=told.group or None,
        config=dict(told.params),
        resume="never",
        auto_log_gpu=False,
    )
    for step, (_, numbers) in enumerate(told.points):
        trackio.log(numbers, step=step)
    trackio.log(told.summary, step=len(told.points))
    trackio.finish()
    return f"trackio's project {project} (look at it with: trackio show --project {project})"


def _to_wandb(told: Tracked, project: str) -> str:
    import wandb

    quiet = wandb.Settings(silent=True)
    group = told.group or None
    made = wandb.init(
        project=project, name=told.name, id=told.name, group=group, config=dict(told.params), settings=quiet
    )
    for step, (_, numbers) in enumerate(told.points):
        made.log(numbers, step=step)
    made.summary.update(told.summary)
    made.finish()
    return f"wandb's project {project}, {made.url or made.dir}"


_A_BATCH = 1000  # metrics that mlflow takes at once
TRACKERS: dict[str, Callable[[Tracked, str], str]] = {"mlflow": _to_mlflow, "trackio": _to_trackio, "wandb": _to_wandb}


def _milliseconds(seconds: float) -> int:
    return int(1000 * seconds)


def _there_already(told: Tracked) -> str:
    return f"{told.name} is there already"


def check_tracker(name: str) -> None:
    """See that there is such a tracker here, before any work is done for it.

    Raises:
        ComeError: there is none of that name, or its package is not installed.
    """
    from importlib.util import find_spec

    if name not in TRACKERS:
        raise ComeError(f"There is no tracker {name!r}.", f"Choose {', '.join(TRACKERS)}.")
    if find_spec(name) is None:
        raise ComeError(f"{name} is not installed.", f"Install it: pip install {name}")


def track(run: Run, tracker: str, project: str = PROJECT) -> str:
    """Tell a finished run to a tracker.

    Args:
        run: the run.
        tracker: one of ``TRACKERS``.
        project: what it is filed under: a project, mlflow's experiment.

    Returns:
        Where it is now, in words.

    Raises:
        ComeError: the run is not finished, the tracker is not installed, or it refused.
    """
    check_tracker(tracker)
    told = tracked(run)
    try:
        with redirect_stdout(StringIO()):  # trackio says much
            return TRACKERS[tracker](told, project)
    except Exception as error:  # each tracker has errors of its own: the network, a login, a full disk
        reason = str(error).strip().split("\n")[0][:300] or type(error).__name__
        missing = isinstance(error, ImportError)
        hint = f"Install {tracker} again, with all that it needs." if missing else "Look at its settings."
        raise ComeError(f"{tracker} did not take the run {run.id}: {reason}.", hint) from error
