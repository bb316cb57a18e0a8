"""Start runs and watch them. Each is a process of its own, so leaving or reloading the page harms nothing."""

from __future__ import annotations

import streamlit as st

import come.runs
from app import example_runs, formats
from app.run import detail, lists, new_run, sweeps
from app.state import session
from come.errors import ComeError
from come.runs import Run


def page() -> None:
    opened = _opened()
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.title("Run", width="content")
        if opened is not None:
            st.button("New run", key="new-run", icon=":material/add:", on_click=session.open_run, args=(None,))
    problem = session.take_problem()
    if problem:
        st.error(problem, icon=":material/error:")
    if opened is None:
        new_run.draw()
    else:
        detail.draw(opened)
    lists.queue(opened)
    sweeps.section(come.runs.list_runs(), session.open_run, followed=True)
    lists.everything(opened)


def _opened() -> Run | None:
    """The run of the URL: one of the visitor's, or a shipped one."""
    wanted = session.opened_run()
    if wanted is None:
        return None
    try:
        return come.runs.find(wanted)
    except ComeError as error:
        shipped = next((run for run in example_runs.runs() if run.id == wanted), None)
        if shipped is None:
            st.warning(formats.sentence(str(error)))
        return shipped


page()
