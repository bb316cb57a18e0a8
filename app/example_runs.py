"""The runs that ship with the project: an analysis and real runs on the bundled model, without weights."""

from __future__ import annotations

from pathlib import Path

import come.runs
from come.errors import ComeError
from come.runs import Run

FOLDER = Path(__file__).resolve().parent / "example"


def runs() -> list[Run]:
    """All shipped runs, those that prune and the analysis."""
    return come.runs.list_runs(FOLDER)


def run_for(model: str) -> Run | None:
    """The shipped analysis, if it is of that model and lies complete in the tree."""
    for run in runs():
        if (run.path / "analysis.safetensors").is_file() and _is_of(run, model):
            return run
    return None


def is_example(run: Run) -> bool:
    """Whether a run is a shipped one."""
    return Path(run.path).resolve().is_relative_to(FOLDER)


def _is_of(run: Run, model: str) -> bool:
    try:
        return run.config.model == model
    except ComeError:
        return False
