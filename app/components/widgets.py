"""Pieces that more than one page shows: progress, charts, notes, the info mark."""

from __future__ import annotations

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Literal

import plotly.graph_objects as go
import streamlit as st

from app import formats, presenter, theme
from app.components import machine, run_words
from app.server import page_turns
from app.state import request, session, time_left, visit
from come.errors import ComeError
from come.runs import Run
from come.runs.ahead import Outlook, together

PAGES = Path(__file__).resolve().parents[2] / "pages"
_COPY = "<button type='button' class='come-copy' aria-label='Copy this chart as a picture'>Copy</button>"


# --- progress ----------------------------------------------------------------------------------------


def progress(run: Run) -> None:
    """Live progress of a run, with a cancel button; when it ends the whole page runs again.

    Draw it only while the run is active (``run.state().status in session.ACTIVE``).
    """
    _progress(run, run.state().status)


@st.fragment(run_every=1.0)
def _progress(run: Run, drawn: str) -> None:
    state = run.state()
    if state.status != drawn:  # the strip, and whatever else the page says of it
        st.rerun()
    waits = state.status == "queued"
    runs = time_left.started_together(run)
    each = time_left.of_runs(runs)
    with st.container(border=True):
        if (own := each.get(run.id)) is not None:
            what = run_words.waiting(run) if waits else formats.sentence(state.message) or "Starting"
            share = time_left.never_back(run.id, own.share)
            st.progress(share, text=f"**{what}**{f' · {share:.0%}' if share >= 0.005 else ''}")
            if len(runs) > 1:
                _together(runs, each)
        with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
            left = "" if own is None or len(runs) > 1 else _left(own)  # of several, only what all will take is told
            so_far = "" if waits or own is None else f"{formats.duration(own.elapsed)} so far{left}. "
            st.caption(f"{so_far}You may leave this page; the run goes on.")
            if session.owns(run):
                st.button(
                    "Cancel",
                    key=f"cancel-{run.id}",
                    icon=":material/stop_circle:",
                    on_click=session.cancel,
                    args=(run,),
                )


def _together(runs: list[Run], each: dict[str, Outlook]) -> None:
    """How far all runs are that were started at once."""
    states = {run.id: run.state() for run in runs if run.id in each}
    done = sum(not state.active for state in states.values())
    total = together([each[run] for run in states], [state.status == "queued" for state in states.values()])
    share = time_left.never_back(runs[0].config.sweep, total.share)
    st.progress(share, text=f"{done} of {len(runs)} runs started together have ended{_left(total)}")


def _left(outlook: Outlook) -> str:
    if outlook.left is None:
        return ""
    return f" · about {formats.about(outlook.left)} left{', longer than foreseen' if outlook.overdue else ''}"


def ended_badly(run: Run) -> None:
    """One sentence for a run that failed, was cancelled or interrupted."""
    state = run.state()
    if state.status in ("failed", "unreadable"):
        st.error(formats.sentence(f"{state.error} {state.hint}"), icon=":material/error:")
    elif state.status == "interrupted":
        gone = "The run stopped without ending: its process is gone. Resume it on the run page."
        st.warning(formats.sentence(f"{state.error} {state.hint}") if state.error else gone)
    elif state.status == "cancelled":
        st.info(formats.sentence(f"{state.error} {state.hint}".strip() or "The run was cancelled."))


def launch_analysis(label: str = "Prepare and analyse", key: str = "launch-analysis") -> None:
    """The button that starts an analysis of the choice; a sentence instead where it cannot start."""
    st.button(label, key=key, type="primary", icon=":material/monitoring:", on_click=_launch_analysis)
    problem = session.take_problem()
    if problem:
        st.error(problem, icon=":material/error:")


def _launch_analysis() -> None:
    try:
        visit.start_analysis(request.analysis(session.choice()))
    except ComeError as error:
        session.set_problem(str(error))


# --- small pieces ------------------------------------------------------------------------------------


def chart(
    drawn: go.Figure,
    key: str,
    *,
    alt: str,
    on_select: Callable[[], None] | None = None,
    width: int | Literal["stretch"] = "stretch",
    image: Literal["svg", "png"] = "svg",
    zooms: bool = True,
) -> None:
    """Show a chart of ``app.figures`` with its title as text above it.

    Plotly does not wrap titles, and on a narrow screen cuts them off; text on the page wraps.

    Args:
        drawn: the plotly figure; its title is taken out of it.
        key: the chart's key, also for ``session.clicked``.
        alt: what it shows, for those who cannot see it.
        on_select: called after a click on one of its points.
        width: pixels at most, or the whole column.
        image: what the camera above the chart saves.
        zooms: it has plotly's buttons to zoom by dragging, and back.
    """
    if presenter.is_on():
        drawn = presenter.enlarged(drawn)
    title = drawn.layout.title.text or ""
    drawn.update_layout(title_text="", margin_t=drawn.layout.margin.t - theme.title_room(title))
    config = {
        **theme.PLOT_CONFIG,
        "toImageButtonOptions": {"format": image, "filename": key, "scale": 2 if image == "png" else 1},
    }
    if not zooms:
        config["modeBarButtonsToRemove"] = [*theme.PLOT_CONFIG["modeBarButtonsToRemove"], "zoom2d", "resetScale2d"]
    with st.container(gap=None):
        # Streamlit holds no place for a chart that is not drawn yet: what is below it would jump.
        place = f"<style>.st-key-{key} {{ min-height: {drawn.layout.height}px }}</style>"
        st.html(f"<p class='come-finding'>{formats.chart_title(title)}</p>{_COPY}{place}")
        if on_select is None:
            st.plotly_chart(drawn, key=key, config=config, alt=alt, width=width)
        else:
            st.plotly_chart(
                drawn, key=key, config=config, alt=alt, width=width, on_select=on_select, selection_mode="points"
            )


def laid_out() -> None:
    """Say that all of the page is there, before its script goes on to follow something: it is shown then."""
    st.html("<span class='come-laid-out'></span>")
    page_turns.give_back()


def facts_grid(shown: dict[str, str]) -> None:
    """Numbers with their names, in a grid that fits any width."""
    cells = "".join(f"<div><span>{escape(name)}</span><b>{escape(value)}</b></div>" for name, value in shown.items())
    st.html(f"<div class='come-facts'>{cells}</div>")


def info(term: str, text: str, key: str | None = None) -> None:
    """An info mark: the term as a quiet button that opens its formula or explanation (markdown, LaTeX)."""
    with st.popover(term, icon=":material/info:", type="tertiary", key=key):
        st.markdown(text)


def empty_state(title: str, text: str, page: str | None = None, label: str = "") -> None:
    """What a page shows when it has nothing to show: why, and the way to something."""
    with st.container(border=True):
        st.markdown(f"**{title}**")
        st.markdown(text)
        if page:
            next_step(page, label)


def no_analysis() -> None:
    """What a page of charts shows where the choice was not measured yet: progress, or the way to start."""
    active = visit.analysis_run()
    if active is not None:
        progress(active)
        return
    chosen = session.choice()
    known = visit.facts()
    if not known.supported:
        empty_state("This model cannot be measured", formats.sentence(known.reason), "model", "Choose another model")
        return
    with st.container(border=True):
        st.markdown(f"**{formats.literal(known.title)} has not been measured over this text yet.**")
        st.markdown(f"One pass over {chosen.tokens:,} tokens shows which channels, heads and layers matter.")
        launch_analysis()
        machine.draw()
        next_step("model", "Choose another model or text")


def next_step(page: str, label: str, icon: str = ":material/arrow_forward:", **query: str) -> None:
    """A link to a page that comes next in a visit, if there is one; `query` are parameters of its address."""
    if (PAGES / f"{page}.py").is_file():
        st.page_link(PAGES / f"{page}.py", label=label, icon=icon, query_params=query or None)
