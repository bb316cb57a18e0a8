"""Choose what to merge and how far, and see what it would cost before anything runs."""

from __future__ import annotations

import streamlit as st

from app import formats
from app.components import cost_line, poll, widgets
from app.components.poll import Look
from app.plan import actions, cheapest, controls, preview
from app.plan.whatif import panel
from app.state import foreseen, session, visit
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.forecast import Forecast


def page() -> None:
    st.title("Plan")
    measured, facts, is_example, analysis = visit.analysis()
    if not facts.supported:
        widgets.empty_state("This model cannot be pruned here", facts.reason, "model", "Choose another model")
        return
    found, fault = _foreseen(measured, facts)
    actions.start_from(measured, facts)
    with st.container(key="plan-body"):
        choices, picture = st.columns([1.1, 2.45], gap="medium")
    with choices, st.container(key="plan-choices"):
        controls.draw(facts, found)
    open_questions: list[Look] = []
    with picture:
        problem = session.take_problem() or formats.sentence(fault)
        if problem:
            st.error(problem, icon=":material/error:")
        if not fault:
            with st.container(key="plan-verdict"):
                verdict = st.empty()
            preview.sizes(facts)
            drawn = visit.as_run(found, facts)
            preview.ribbons(measured, facts, is_example, drawn)
            cost = cost_line.cost([visit.requested()], facts, measured)
            open_questions = panel.draw(verdict, facts, analysis, found, cost)
        shown = None if fault else panel.answered()
        actions.go_on(fault, shown.run if shown else "")
        if not fault:
            preview.kept(facts, drawn)
            if measured is not None and analysis is not None:
                open_questions += cheapest.draw(analysis, measured, facts, is_example, found)
            preview.runs_so_far(facts, shown)
    poll.follow(open_questions)


def _foreseen(measured: Measurement | None, facts: Facts) -> tuple[Forecast | None, str]:
    """What the plan would do, as far as that is known before it runs; and the sentence if the plan cannot be."""
    try:
        return foreseen.forecast(session.draft(), measured, facts, session.choice().seed, visit.costs()), ""
    except ComeError as error:
        return None, str(error)


page()
