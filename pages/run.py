"""Start runs and watch them. Each is a process of its own, so leaving or reloading the page harms nothing."""

from __future__ import annotations

import streamlit as st

import come.runs
from app.components import run_words
from app.run import detail, lists, new_run, sweeps
from app.state import foreseen, linked_run, session, visit
from come.errors import ComeError


def page() -> None:
    wanted = session.opened_run()
    opened = None if wanted is None else linked_run.find(wanted)
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
        st.title("Run", width="content")
        if opened is not None:
            st.button(
                "New run", key="new-run", icon=":material/add:", help=_offer(), on_click=session.open_run, args=(None,)
            )
    problem = session.take_problem()
    if problem:
        st.error(problem, icon=":material/error:")
    if wanted is not None and opened is None:
        _missing(wanted)
    if opened is None:
        new_run.draw()
    else:
        detail.draw(opened)
    lists.queue(opened)
    sweeps.section(come.runs.list_runs(), session.open_run, followed=True)
    lists.everything(opened)


def _offer() -> str | None:
    """Which plan a new run would start: not that of the run on the page. None where it cannot be said."""
    try:
        facts = visit.facts()
        return (
            f"Of the plan that you have now: {facts.layers} → {foreseen.target_layers(visit.planned(), facts)} layers."
        )
    except ComeError:
        return None


def _missing(wanted: str) -> None:
    """That the link's run is not here."""
    st.warning(f"{run_words.missing(wanted)} What was run here is listed below.", icon=":material/search_off:")


page()
