"""The run page before there is a run: what the plan asks for, the form, what it will take, and the button."""

from __future__ import annotations

import streamlit as st

import come.cluster
import come.runs
from app import formats, presenter
from app.components import cost_line, machine, widgets
from app.run import form, planned, sentences
from app.state import foreseen, session, visit
from come.errors import ComeError
from come.models import Facts
from come.request import RunConfig
from come.runs.command_line import command_line
from come.serving import limits


def draw() -> None:
    """The form, or why nothing can run."""
    facts = visit.facts()
    if not facts.supported:
        widgets.empty_state("This model cannot be pruned here", facts.reason, "model", "Choose another model")
        return
    draft = visit.planned()
    try:
        layers = foreseen.target_layers(draft, facts)
    except ComeError as error:
        widgets.empty_state("The plan cannot run as it is", formats.sentence(str(error)), "plan", "Mend the plan")
        return
    first = presenter.is_on()  # a room looks at the picture before it reads
    if first:
        planned.draw(facts)
    with st.container(border=True):
        _asked(facts, sentences.sentence(session.choice(), draft, facts, layers))
        if not first:
            planned.draw(facts)
        requests = form.requests(facts, layers)
        refusal = cost_line.draw(cost_line.cost(requests, facts, visit.measurement(), usual=True))
        machine.draw()
        with st.container(horizontal=True, vertical_alignment="center"):
            count = len(requests)
            pressed = st.button(
                "Start the run" if count == 1 else f"Start {count} runs",
                key="start",
                type="primary",
                icon=":material/play_arrow:",
                disabled=not requests or bool(refusal),
            )
        if pressed:  # no callback: its arguments would be from before what was typed last
            _start(requests)
            st.rerun()
        with st.expander("The same on the command line"):
            st.code("\n".join(command_line(item) for item in requests), language="bash")


def _asked(facts: Facts, plan: str) -> None:
    """Which model and which plan are run, with the ways to change them."""
    for name, words, page, label in (
        ("Model", facts.title, "model", "Change model"),
        ("Plan", plan, "plan", "Change plan"),
    ):
        said, way = st.columns([3.2, 1], gap="small")
        said.markdown(f"**{name}** · {formats.literal(words)}")
        with way:
            widgets.next_step(page, label)


def _start(requests: list[RunConfig]) -> None:
    """Check and queue all requests in one process; the first one is opened."""
    where = "" if limits.is_demo() else str(session.value(session.WHERE) or "")
    try:
        if (place := come.runs.cluster_target(where)) is not None:
            come.cluster.check_reachable(place)
        allowed = limits.current()
        if len(requests) > 1:
            made = come.runs.prepare(requests, allowed=allowed, visit=session.visit())
        else:
            made = [come.runs.create(requests[0], allowed=allowed, visit=session.visit())]
        todo = [run for run in made if run.state().status != "done"]
        come.runs.launch(*(todo or made), where=where)
        session.open_run(made[0].id)
    except ComeError as error:
        session.set_problem(str(error))
