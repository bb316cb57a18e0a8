"""The layers page's section on how few layers a sequence needs: searched in the background, when it is asked for."""

from __future__ import annotations

import streamlit as st

from app import formats
from app.components import widgets
from app.components.packing import NOT_YOURS, begin, failed
from app.components.poll import Look
from app.figures.layers_needed import needed
from app.state import cached, session, widget_state
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.runs import Run
from come.runs.layers_needed import Search
from come.serving import layers_needed as background
from come.serving import limits

LOOKS = 4  # of a page that follows the search, after which its files are read again

WHAT = """
What could be saved if somebody told the model before each text which layers to skip (*Dynamic layer selection*,
arXiv 2410.20022). A sequence needs no more layers than leave its own loss, in nats a token, within the tolerance of the
loss with all.

Two searches tell how many. The chart draws the greedy one: the layer whose absence leaves the lowest loss goes, again
and again, within the passes that it may cost. The other tries layers at equal distances. The number on the right is the
lower of both. Neither is the least of all subsets.
"""


def draw(run: Run, measured: Measurement, facts: Facts, is_example: bool) -> list[Look]:
    """The section; what the page is to follow while it is searched.

    Args:
        run: the analysis, and ``measured``: what it found.
        facts: of its model.
        is_example: it is the shipped one, beside which nothing is measured.
    """
    with st.expander("How few layers does a sequence need?"):
        tolerances = background.TOLERANCES
        widget_state.keep_among("tolerance", tolerances, tolerances[-1])  # without a loss hardly a layer can go
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
            st.segmented_control(
                "The loss may rise by",
                tolerances,
                key="tolerance",
                required=True,
                format_func="{:g} nats a token".format,
            )
            widgets.info("What is measured?", WHAT, key="formula-needed")
        tolerance = float(session.value("tolerance"))
        try:
            search = cached.layers_needed(run, facts.layers).get(tolerance)
        except ComeError as error:
            st.warning(formats.sentence(f"{error.what} Measure it anew to replace it."))
            search = None
        if search is not None:
            _shown(search, facts.layers)
        if is_example:
            st.caption(
                ":material/bookmark: Shipped example"
                if search
                else ":material/bookmark: The example has none of these."
            )
            return []
        return _standing(run, measured, facts.layers, tolerance, search)


def _shown(search: Search, layers: int) -> None:
    widgets.chart(
        needed(search, layers),
        key="layers-needed",
        alt="Which layers each sequence can do without, and how many it needs",
    )
    cut = sum(not each.complete for each in search.found)
    more = f" {cut} of the searches ended there, so fewer layers may do." if cut else ""
    st.caption(
        f"Kept in its layer's colour, dropped hatched. Sequences of {search.tokens:,} calibration tokens; the "
        f"greedy search may cost {search.passes:g} passes through the model a sequence.{more}"
    )


def _standing(run: Run, measured: Measurement, layers: int, tolerance: float, search: Search | None) -> list[Look]:
    """How far the search is, with a button to stop it, to begin or to go on."""
    job = background.searching(run)
    if job.status == "working":
        return [_followed(run)]
    failed(job)
    sequences = min(background.SEQUENCES, measured.n_tokens // run.config.seq_len)
    done, passes = (len(search.found), search.passes) if search is not None else (0, float(layers))
    if done < sequences:
        seconds = limits.current().window_seconds
        many = f"{sequences - done} {'more' if done else 'sequences'}"
        st.button(
            f"Measure {many}, up to {formats.duration(seconds)}",
            key="search-needed",
            icon=":material/timer:",
            on_click=begin,
            args=(background.start, run, tolerance, passes, seconds),
            disabled=not session.owns(run),
            help=f"In the background, {_about(run, measured, layers, passes)} each: "
            f"the greedy search may cost {passes:g} passes. "
            "One sequence is always ended, and what is measured stays."
            if session.owns(run)
            else NOT_YOURS,
        )
    return []


def _about(run: Run, measured: Measurement, layers: int, passes: float) -> str:
    """How long a sequence takes at most, both searches to their ends, by the analysis's own pass over all of them."""
    took = run.results().get("seconds", {}).get("measure", 0.0)
    greedy = min(passes, (layers + 3) * layers / 6)
    return f"about {formats.about(took * (greedy + layers / 2) * run.config.seq_len / measured.n_tokens)}"


def _followed(run: Run) -> Look:
    """Tells what the search does, with a button to end it; and when the page is to be drawn anew."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        place = st.empty()
        if session.owns(run):
            st.button(
                "Stop", key="stop-needed", icon=":material/stop_circle:", on_click=begin, args=(background.stop, run)
            )
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        if looks % LOOKS != 1:
            return False
        job = background.searching(run)
        doing = formats.sentence(job.message) or "At work"
        place.caption(f":material/progress_activity: {doing} … You may leave this page.")
        return job.status != "working"

    look()
    return look
