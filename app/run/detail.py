"""One run on the run page: how far it is, what it decided, how recovery went, and what can be done with it."""

from __future__ import annotations

import json

import pandas as pd
import streamlit as st

import come.runs
from app import example_runs, formats, theme
from app.components import report_button, widgets
from app.figures import run as run_figures
from app.run import card, made_of, probe, sentences, take_home
from app.server import downloads
from app.state import session
from come.errors import ComeError
from come.request import RunConfig
from come.runs import Run, reported
from come.runs.run import STOP_REQUEST
from come.runs.time_limit import has_time_left
from come.serving import limits
from come.serving.limits import without_paths


def draw(run: Run) -> None:
    """All of it."""
    state, shipped = run.state(), example_runs.is_example(run)
    try:
        run.check()
        config = run.config
    except ComeError as error:
        st.header(formats.literal(run.id))
        st.error(formats.sentence(str(error)), icon=":material/broken_image:")
        if session.owns(run) and not shipped:
            _delete_button(run)
        return
    called, rest = sentences.heading(run)
    st.header(formats.literal(called))
    st.caption(formats.literal(rest))
    if shipped:
        st.caption(":material/bookmark: Shipped example. It cannot be changed.")
    for sentence in reported.texts_read(run.results()):
        st.caption(formats.literal(sentence))
    if state.active:
        _stages(run, config)
        widgets.progress(run)
        _live(run)
        if config.recover:
            st.fragment(run_every=2.0)(_training)(run)
    else:
        widgets.ended_badly(run)
        if state.status == "done":
            card.draw(run, config)
            made_of.draw(run)
        _actions(run, state.status, changeable=session.owns(run) and not shipped)
        if state.status == "done":
            probe.draw(run, run.results())
        if state.status == "done" and not shipped:  # what is packed for download is written into the run
            take_home.section(run)
        _steps(run)
        if config.recover:
            _training(run)
    logged = state.active or bool(run.log().strip() or run.events())
    name = "Log and request" if logged else "Request"
    with st.expander(name, expanded=state.status != "done", icon=":material/notes:"):  # of what failed, it is read
        _log_and_request(run, config, logged, state.active)


def _log_and_request(run: Run, config: RunConfig, logged: bool, active: bool) -> None:
    """What the run said, followed while it is at work, and what it was asked for."""
    *log, asked = st.tabs([*(["Log"] if logged else []), "Request"])
    if log:
        with log[0]:
            st.fragment(run_every=2.0 if active else None)(_log)(run)
    with asked:
        st.code(f"come runs show {run.id}", language="bash")
        document = json.dumps(config.model_dump(mode="json", exclude_none=True), indent=2)
        st.code(without_paths(document), language="json", height=220)


@st.fragment(run_every=1.0)
def _stages(run: Run, config: RunConfig) -> None:
    st.markdown(sentences.stages(config, run.state()))


@st.fragment(run_every=1.0)
def _live(run: Run) -> None:
    """The line a step, in a chart that does not flicker when it grows."""
    for line in reported.series(run.events()):
        st.markdown(f"**{line.title}**")
        table = pd.DataFrame({line.x: line.xs, line.y: line.ys})
        st.line_chart(table, x=line.x, y=line.y, height=180, color=theme.ACCENT)


FEW_LINES, LOG_HEIGHT = 8, 220  # of the log, up to which it is as high as they are; pixels where there are more


def _log(run: Run) -> None:
    text = reported.tail(run.log()).strip()
    events = reported.messages(run.events())
    if events:
        height = LOG_HEIGHT if len(events) > FEW_LINES else "content"
        with st.container(height=height, border=False, autoscroll=True):  # what came last is seen
            st.code(without_paths("\n".join(events)), language=None, wrap_lines=True)
    elif not text:
        st.caption("It says nothing before it starts.")
    if text:
        st.caption("What the process itself wrote")
        st.code(without_paths(text), language=None, height=160)


def _steps(run: Run) -> None:
    """What each step decided, once the run is over."""
    history = run.results().get("history") or []
    if history and run.config.kind == "compress":
        plan = run.plan()
        figure = run_figures.steps(history, plan.merged() if plan else ())
        if figure is not None:
            widgets.chart(figure, key=f"steps-{run.id}", alt="What each step of the run decided")


def _actions(run: Run, status: str, changeable: bool) -> None:
    """What can be done with a run that is over; one that is not `changeable` can be looked at and taken along."""
    with st.container(horizontal=True, vertical_alignment="center"):
        if status != "done" and changeable and has_time_left(run.written_state()):
            st.button(
                "Resume",
                key="resume",
                type="primary",
                icon=":material/resume:",
                on_click=_resume,
                args=(run,),
                help="Replays the plan so far, then goes on.",
            )
        if status == "done":
            report_button.draw([run])
        if status != "done" and (run.path / "plan.json").is_file():  # else it is on the card
            downloads.plan_button(run, "Download the plan so far", f"plan-{run.id}")
        if changeable:
            _delete_button(run)


def _delete_button(run: Run) -> None:
    with st.popover("Delete", icon=":material/delete:", type="tertiary"):
        st.markdown(f"This removes the run with its {formats.human_bytes(run.size_bytes())} for good.")
        st.button("Delete for good", key="delete", type="primary", on_click=_delete, args=(run,))


def _resume(run: Run) -> None:
    try:
        session.check_owned(run)
        come.runs.resume(run, limits.current())
        session.open_run(run.id)
    except ComeError as error:
        session.set_problem(str(error))


def _delete(run: Run) -> None:
    try:
        session.check_owned(run)
        come.runs.delete(run)
        session.open_run(None)
    except ComeError as error:
        session.set_problem(str(error))


LATEST = "what is trained now"
FEW_NOTES = 6  # what recovery did, up to which it stands open


def _training(run: Run) -> None:
    """The losses of a recovery, of the way and layer that is at work or is chosen; a way to stop it early."""
    table = reported.curves(run.events())
    state = run.state()
    if not state.active and (notes := reported.outcome(run.plan())):
        with st.expander("What recovery did", expanded=len(notes) <= FEW_NOTES):
            st.markdown("\n".join(f"- {sentence}" for sentence in notes))
    if table.empty:
        return
    names = reported.parts(table)
    options = [LATEST, *names] if state.active else names
    with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="bottom"):
        key = "trained-part" if state.active else "trained-part-at-end"  # the options differ
        chosen = st.selectbox("Loss of", options, key=key) if len(names) > 1 else LATEST
        if state.status == "running" and state.stage == "recover" and session.owns(run):
            asked = (run.path / STOP_REQUEST).exists()
            st.button(
                "Stopping" if asked else "Stop early, keep the best",
                key="stop-early",
                icon=":material/stop:",
                disabled=asked,
                on_click=_stop_early,
                args=(run,),
            )
    part = names[-1] if chosen in (LATEST, None) else chosen
    losses = reported.of_part(table, part)
    if not state.active:
        widgets.chart(run_figures.losses(part, losses), key=f"losses-{run.id}", alt=f"Loss of {part} by step")
        return
    st.markdown(f"**Loss of {part}**")
    colors = {"training": theme.ACCENT, "held out": theme.MARK}
    lines = reported.live(losses)
    st.line_chart(lines, x_label="step", y_label="loss", height=220, color=[colors[kind] for kind in lines.columns])
    if told := reported.held_out(losses):
        st.caption(told)


def _stop_early(run: Run) -> None:
    try:
        session.check_owned(run)
        (run.path / STOP_REQUEST).touch()
    except ComeError as error:
        session.set_problem(str(error))
    except FileNotFoundError:
        session.set_problem(f"The run {run.id} is not there any more.")
