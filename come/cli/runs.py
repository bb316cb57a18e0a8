"""`come runs`: looking at runs, ending them, going on with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from come.cli.prune import show_results, summary
from come.cli.request import On, Runs, execute_at
from come.cli.screen import AsJson, show, show_json, show_table
from come.cli.sweep import execute_all_at
from come.errors import ComeError
from come.processes import give_way
from come.runs import Run, cancel, cluster_target, delete, find, list_runs, resume
from come.runs.cluster_target import LOCAL

Id = Annotated[str, typer.Argument(help="A run's id, or enough of its beginning.", metavar="ID")]

app = typer.Typer(
    help="List runs, look at one, cancel, resume or delete it.\n\n"
    "[bold]Examples[/bold]\n\ncome runs\n\ncome runs show 20261122-1415\n\ncome runs resume 20261122-1415",
    rich_markup_mode="rich",
)


@app.callback(invoke_without_command=True)
def _without_command(context: typer.Context, runs: Runs = None, as_json: AsJson = False) -> None:
    if context.invoked_subcommand is None:
        list_all(runs, as_json)


@app.command("list")
def list_all(runs: Runs = None, as_json: AsJson = False) -> None:
    """List the runs, newest first."""
    found = list_runs(runs)
    if as_json:
        show_json([_line(run) for run in found])
    elif not found:
        show("There are no runs yet. Begin with `come run --target-layers 27`.")
    else:
        lines = [_line(run) for run in found]
        rows = [(line["id"], line["status"], _where(line), line["perplexity"]) for line in lines]
        show_table(("id", "status", "stage", "perplexity"), rows)


@app.command("show")
def show_one(run_id: Id, runs: Runs = None, as_json: AsJson = False) -> None:
    """Tell where a run stands and what it found."""
    run = find(run_id, runs)
    run.check()
    if as_json:
        show_json(summary(run))
        return
    state = run.state()
    took = (state.finished or time.time()) - state.started if state.started else 0.0
    show(f"{run.id}: {state.status}" + (f", {took:,.0f} s" if took else ""))
    went = f"Go on with it: come runs resume {run.id}" if state.status in ("interrupted", "cancelled") else ""
    for line in (_where(_line(run)), f"{state.error} {state.hint}".strip(), went):
        if line:
            show(line)
    show_results(run)


@app.command("cancel")
def cancel_one(run_id: Id, runs: Runs = None, as_json: AsJson = False) -> None:
    """End a run that waits or works. What it has done stays, and `come runs resume` goes on with it."""
    run = find(run_id, runs)
    cancel(run)
    while run.state().active:
        time.sleep(0.1)
    _tell(run, as_json)


@app.command("resume")
def resume_one(run_id: Id, runs: Runs = None, as_json: AsJson = False) -> None:
    """Go on, in the background, with a run that was interrupted, cancelled or failed."""
    run = find(run_id, runs)
    resume(run)
    _tell(run, as_json)


@app.command("delete")
def delete_one(run_id: Id, runs: Runs = None, as_json: AsJson = False) -> None:
    """Remove a run with its model and all its files; its id is given whole."""
    run = find(run_id, runs)
    if run.id != run_id:
        raise ComeError(f"{run_id} is the beginning of {run.id}.", "Give the whole id to delete it.")
    delete(run)
    if as_json:
        show_json({"id": run.id, "status": "deleted"})
    else:
        show(f"{run.id}: deleted")


@app.command("execute", hidden=True)
def execute_here(paths: list[Path], on: On = LOCAL) -> None:
    """Execute runs in this process, one after the other, or see to them on a cluster: what `launch` starts."""
    give_way()
    made, target = [Run(path.resolve()) for path in paths], cluster_target(on)
    if len(made) == 1:
        execute_at(target, made[0], None)
    else:
        execute_all_at(target, made, None)


def _tell(run: Run, as_json: bool) -> None:
    status = run.state().status
    if as_json:
        show_json({"id": run.id, "path": str(run.path), "status": status})
    else:
        show(f"{run.id}: {status}")


def _line(run: Run) -> dict[str, Any]:
    state, results = run.state(), run.results()
    return {
        "id": run.id,
        "path": str(run.path),
        "status": state.status,
        "stage": state.stage,
        "step": state.step,
        "of": state.of,
        "message": state.message,
        "created": state.created,
        "error": state.error,
        "perplexity": (results.get("pruned") or {}).get("perplexity"),
    }


def _where(line: dict[str, Any]) -> str:
    if line["status"] == "unreadable":
        return str(line["error"])
    if line["status"] not in ("queued", "running") or not line["stage"]:
        return ""
    return f"{line['stage']} {line['step']}/{line['of']} {line['message']}".strip()
