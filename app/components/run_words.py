"""What is said of where a run stands: its stages and states in people's words."""

from __future__ import annotations

import come.runs
from app import formats
from app.state import time_left
from come.errors import ComeError
from come.report.metrics import number
from come.runs import Run

# The stages of a pruning run, in order: the events' name -> what people read.
STAGES = {
    "convert": "Convert",
    "load": "Load",
    "measure": "Measure",
    "compress": "Prune",
    "recover": "Recover",
    "evaluate": "Perplexity",
    "accuracy": "Accuracy",
    "probe": "Probe",
    "speed": "Speed",
    "save": "Save",
}
STATUS = {
    "queued": ":material/schedule: waiting",
    "running": ":material/progress_activity: running",
    "done": ":material/check_circle: done",
    "failed": ":material/error: failed",
    "cancelled": ":material/cancel: cancelled",
    "interrupted": ":material/power_off: interrupted",
    "unreadable": ":material/broken_image: unreadable",
}


def missing(wanted: str) -> str:
    """Why the run of a link is not shown."""
    name = f"“{formats.literal(wanted[:80])}”"
    try:
        fault = come.runs.find(wanted).fault
    except ComeError:
        return f"There is no run {name} here. It may have been deleted, or be on another machine."
    why = f"cannot be shown. {formats.sentence(str(fault))}" if fault else "has no plan."
    return f"The run {name} {why}"


def waiting(run: Run) -> str:
    """Which place a run has in the line."""
    line = [other.id for other in time_left.in_line()]
    before = line.index(run.id) if run.id in line else 0
    return f"Waiting for {before} run{'' if before == 1 else 's'} before it" if before else "Starting"


def standing(run: Run) -> str:
    """Where a run stands, in a few words."""
    state = run.state()
    if state.status == "done":
        results = run.results()
        before, after = ((results.get(side) or {}).get("perplexity") for side in ("original", "pruned"))
        return f"perplexity {number(before)} → {number(after)}" if before and after else "done"
    return {"running": "at work", "queued": "waiting for its turn"}.get(state.status, state.status)
