"""The run that a page is about, by its link: one's own or a shipped one."""

from __future__ import annotations

import come.runs
from app import example_runs
from app.state import session
from come.errors import ComeError
from come.runs import Run


def opened() -> Run | None:
    """The run that the run page is about; None where none is open, or there is no such run."""
    wanted = session.opened_run()
    return None if wanted is None else find(wanted)


def find(wanted: str) -> Run | None:
    """The run of that id, one's own or shipped; None where there is none."""
    shipped = next((run for run in example_runs.runs() if run.id == wanted), None)
    if shipped is not None:
        return shipped
    try:
        return come.runs.find(wanted)
    except ComeError:
        return None
