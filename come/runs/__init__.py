"""Runs: a run is a directory, worked on by a process of its own. Importing this loads no model code."""

from come.request import RunConfig
from come.runs.analyses import analysis_for
from come.runs.cluster_target import ClusterTarget, cluster_target
from come.runs.execute import RunFault, execute
from come.runs.process import cancel, launch, resume, resume_all
from come.runs.run import Run
from come.runs.state import State
from come.runs.store import create, delete, find, list_runs
from come.runs.sweep import Sweep, as_sweep, execute_all, prepare, runs_of

__all__ = [
    "ClusterTarget",
    "Run",
    "RunConfig",
    "RunFault",
    "State",
    "Sweep",
    "analysis_for",
    "as_sweep",
    "cancel",
    "cluster_target",
    "create",
    "delete",
    "execute",
    "execute_all",
    "find",
    "launch",
    "list_runs",
    "prepare",
    "resume",
    "resume_all",
    "runs_of",
]
