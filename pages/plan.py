"""Choose what to merge and how far, and see what it would cost before anything runs."""

from __future__ import annotations

import streamlit as st

from app.components import cost_line, plain_text, widgets
from app.plan import choices, outcome, planning, request, take_along, toolbar, whatif_panel, whatif_watch
from app.state import session, visit
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.forecast import Forecast


def page() -> None:
    whatif_watch.begin()
    st.title("Plan")
    measured, facts, is_example, analysis = visit.analysis()
    if not facts.supported:
        widgets.empty_state("This model cannot be pruned here", facts.reason, "model", "Choose another model")
        return
    found, fault = _foreseen(measured, facts)
    toolbar.draw(measured, facts)
    controls, picture = st.columns([1.1, 2.45], gap="medium")
    with controls:
        choices.draw(facts, found)
    with picture:
        problem = session.take_problem() or plain_text.sentence(fault)
        if problem:
            st.error(problem, icon=":material/error:")
        if not fault:
            outcome.sizes(facts)
            wanted = request.config(session.choice(), visit.config_of_draft())
            whatif_panel.draw(facts, analysis, found, cost_line.cost([wanted], facts, measured))
            outcome.kept(measured, facts, is_example, found)
        take_along.draw(fault)
        if not fault:
            outcome.runs_so_far(facts)
    whatif_watch.follow()


def _foreseen(measured: Measurement | None, facts: Facts) -> tuple[Forecast | None, str]:
    """What the plan would do, as far as that is known before it runs; and the sentence if the plan cannot be."""
    try:
        return planning.forecast(session.draft(), measured, facts, session.choice().seed), ""
    except ComeError as error:
        return None, str(error)


page()
