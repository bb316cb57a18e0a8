"""Which neighbouring layers could become one: how little each window changes the state, what merging it costs."""

from __future__ import annotations

from contextlib import suppress

import streamlit as st

from app import presenter
from app.components import poll, widgets
from app.components.how_sure import how_sure
from app.figures import layers as figures
from app.figures.similarity import KINDS, least_changed, similarity
from app.layers import card, costs, legend, needed
from app.plan.preview import until_measured
from app.state import foreseen, session, visit, widget_state
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.forecast import Forecast
from come.pruning.registry import fits_windows

READING = """
Each cell compares the state that enters a window's first layer with the one that leaves its last: {what}, over
{tokens:,} tokens. Each step of the colours holds as many cells.

**Dotted**: the pairs that change it least by this measure: the same to three decimals, or in the other order on one
half of the text. CoMe goes by the angle (SBI, under *More numbers*).
"""
# The matrix takes what the window beside it leaves of the room's screen.
PRESENTED = """<style>
@media (min-width: 641px) { .stApp [data-testid="stMainBlockContainer"] { padding-left: 2rem; padding-right: 2rem; } }
</style>"""
INTRO = "Neighbouring layers that hardly change what passes through them can become one. Click a cell to open it."


def page() -> None:
    st.title("Layers", anchor=False)  # a link less on the keyboard's way to the window
    st.markdown(INTRO)
    measured, facts, is_example, run = visit.analysis()
    if measured is None or run is None:
        widgets.no_analysis()
        return
    stability = measured.window_stability()
    by_angle = tuple(stability["best"])  # with which CoMe would begin
    widget_state.keep_among("first", list(range(facts.layers - 1)), by_angle[0])
    widget_state.keep_among("last", list(range(1, facts.layers)), by_angle[1])
    best = _least_changed(measured, by_angle)
    window = (session.value("first"), session.value("last"))
    kept = visit.units_kept(measured, facts)
    planned = [] if kept is None else kept.windows
    if presenter.is_on():
        st.html(PRESENTED)
    matrix, one = st.columns(
        [1.85, 1] if presenter.is_on() else [1.25, 1], gap="small" if presenter.is_on() else "medium"
    )
    with matrix:
        _matrix(measured, best, window, planned)
    with one:
        card.draw(run, measured, facts, is_example, planned, stability)
    found = _forecast(measured, facts)
    follow = costs.draw(run, measured, facts, is_example, _sizes(found), planned, best, until_measured(found))
    _influence(measured, planned, window)
    follow += needed.draw(run, measured, facts, is_example)
    widgets.next_step("plan", "Next: the plan")
    poll.follow(follow)


def _least_changed(measured: Measurement, by_angle: tuple[int, int]) -> list[tuple[int, int]]:
    """The windows that change the state least by the measure that is shown; by SBI where no matrix is."""
    kinds = [kind for kind in KINDS if kind in measured.similarity]
    if not kinds:
        return [by_angle]
    widget_state.keep_among("similarity", kinds, kinds[0])
    kind = session.value("similarity")
    tied = figures.tied(measured.skip_influence.numpy(), measured.skip_influence_halves.numpy())
    size = by_angle[1] - by_angle[0] + 1
    return least_changed(measured.similarity[kind].numpy(), kind, size, (by_angle[0], *tied))


def _forecast(measured: Measurement, facts: Facts) -> Forecast | None:
    """What the plan would merge; None where that is not foreseen, or its method takes no windows."""
    if not fits_windows(session.draft().method):
        return None
    with suppress(ComeError):  # the plan page and the strip say what is wrong with it
        return foreseen.forecast(session.draft(), measured, facts, session.choice().seed, visit.costs())
    return None


def _sizes(found: Forecast | None) -> list[int]:
    """How many layers the windows have whose merges matter: pairs, and what an automatic plan takes."""
    return list(dict.fromkeys([2, *(window.last - window.first + 1 for window in (found.windows if found else []))]))


def _matrix(
    measured: Measurement, best: list[tuple[int, int]], window: tuple[int, int], planned: list[tuple[int, int]]
) -> None:
    kinds = [kind for kind in KINDS if kind in measured.similarity]
    if not kinds:
        st.info("This analysis holds no similarity matrix.")
        return
    above, drawn, below = st.container(), st.container(), st.container()
    with (below if presenter.is_on() else above).container(horizontal=True, vertical_alignment="center"):
        st.segmented_control(
            "Similarity",
            kinds,
            format_func=lambda kind: KINDS[kind][1],
            key="similarity",
            required=True,
            label_visibility="collapsed",
        )
        kind = session.value("similarity")
        tokens = measured.cka_tokens if kind == "cka" else measured.n_tokens
        widgets.info("How to read this", READING.format(what=KINDS[kind][2], tokens=tokens), key="formula-similarity")
    with drawn:
        widgets.chart(
            similarity(
                measured.similarity[kind].numpy(),
                kind=kind,
                influence=measured.block_influence.numpy(),
                best=best,
                selected=window,
                planned=planned,
                plan=session.plan_named().removeprefix("the "),
                height=578 if presenter.is_on() else 500,
            ),
            key="similarity-map",
            width="stretch" if presenter.is_on() else 720,
            on_select=_open_clicked,
            zooms=False,
            alt="How alike the state before and after each window of layers is, and block influence of each layer",
        )


def _open_clicked() -> None:
    points = session.clicked("similarity-map")
    if points:
        first, last = (int(number) for number in points[0]["customdata"][:2])
        if last > first:
            session.put("first", first)
            session.put("last", min(last, first + card.LONGEST - 1))


def _influence(measured: Measurement, planned: list[tuple[int, int]], window: tuple[int, int]) -> None:
    with st.expander("How much does each layer change the state?"):
        widget_state.keep_among("heights", ["linear", "log"], "linear")
        st.segmented_control(
            "Scale of both influences", ["linear", "log"], key="heights", required=True, label_visibility="collapsed"
        )
        widgets.chart(
            figures.influence(
                measured.block_influence.numpy(),
                measured.skip_influence.numpy(),
                span=measured.span,
                block_halves=measured.block_influence_halves.numpy(),
                skip_halves=measured.skip_influence_halves.numpy(),
                planned=planned,
                selected=window if window[0] < window[1] else None,
                log=session.value("heights") == "log",
            ),
            key="influence",
            alt="The layers in a row, with block influence and skip block influence",
        )
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            legend.draw()
            how_sure(
                f"Means over {measured.n_tokens:,} tokens. Dashes: the same, measured on each half of the text. "
                "Practically tied: the same to three decimals, or in the other order on one half.",
                key="sure-of-influence",
            )


page()
