"""Runs: a run is a directory, worked on by a process of its own. Importing this loads no model code."""

from come.runs.config import RunConfig
from come.runs.execute import RunFault, execute
from come.runs.process import cancel, launch, resume
from come.runs.state import State
from come.runs.store import Run, analysis_for, create, delete, find, list_runs

__all__ = [
    "Run",
    "RunConfig",
    "RunFault",
    "State",
    "analysis_for",
    "cancel",
    "create",
    "delete",
    "execute",
    "find",
    "launch",
    "list_runs",
    "resume",
]
