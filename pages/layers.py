"""Which layers are alike: similarity at the borders, influence of each layer, and what merging would keep."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

import come
from app import formats
from app.components import poll, widgets
from app.figures import layers as figures
from app.figures.similarity import KINDS, similarity
from app.layers import costs
from app.state import foreseen, session, visit, widget_state
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.registry import fits_windows

LONGEST = 32  # layers a window, at most

FORMULAS = r"""
$H^{(l)}$ is the hidden state that enters layer $l$; $H^{(L)}$ leaves the model.

**Block influence**, how far one layer turns the state:

$$\mathrm{BI}_l = \operatorname{mean}_t\,\bigl(1 - \cos(H^{(l)}_t, H^{(l+1)}_t)\bigr)$$

**Skip block influence**, how far $m$ layers together turn it:

$$\mathrm{SBI}_{l,m} = \operatorname{mean}_t \arccos\bigl(\cos(H^{(l)}_t, H^{(l+m)}_t)\bigr) / \pi$$

CoMe merges the window of lowest SBI, and takes from each of its layers a share in proportion to BI. How far a window
turns the state is not what merging it costs: that is measured further down, and CoMe-Joint goes by it.
"""


def page() -> None:
    st.title("Layers")
    measured, facts, is_example, run = visit.analysis()
    if measured is None or run is None:
        widgets.no_analysis()
        return
    st.caption(
        "Each layer turns the hidden state a little further. Where neighbouring layers hardly turn it, "
        "one layer made of their best pieces may be enough."
    )
    widgets.example_note()
    stability = measured.window_stability()
    best = tuple(stability["best"])
    widget_state.keep_among("first", list(range(facts.layers - 1)), best[0])
    widget_state.keep_among("last", list(range(1, facts.layers)), best[1])
    window = (session.value("first"), session.value("last"))
    kept = visit.units_kept(measured, facts)
    planned = [] if kept is None else kept.windows
    _row(measured, planned, window)
    matrix, card = st.columns([1.3, 1], gap="large")
    with matrix:
        _matrix(measured, best, window, planned)
        _stability(measured, stability)
    with card:
        _card(measured, facts)
    follow = costs.draw(run, measured, facts, is_example, _sizes(measured, facts), planned)
    widgets.next_step("plan", "Next: the plan")
    poll.follow(follow)


def _sizes(measured: Measurement, facts: Facts) -> list[int]:
    """How many layers the windows have whose merges matter: pairs, and what an automatic plan takes."""
    if not fits_windows(session.draft().method):
        return [2]
    try:
        found = foreseen.forecast(session.draft(), measured, facts)
    except ComeError:  # the plan page and the strip say what is wrong with it
        return [2]
    return list(dict.fromkeys([2, *(window.last - window.first + 1 for window in (found.windows if found else []))]))


def _row(measured: Measurement, planned: list[tuple[int, int]], window: tuple[int, int]) -> None:
    widget_state.keep_among("heights", ["linear", "log"], "linear")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.segmented_control("Scale of BI and SBI", ["linear", "log"], key="heights", required=True)
        widgets.info("What are BI and SBI?", FORMULAS, key="formula-influence")
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
    st.caption(
        "Blue lines over the tiles: merges of your plan. Red outline: the window that is open below. "
        "Dashes: the same numbers, measured on each half of the text."
    )


def _matrix(
    measured: Measurement, best: tuple[int, int], window: tuple[int, int], planned: list[tuple[int, int]]
) -> None:
    kinds = [kind for kind in KINDS if kind in measured.similarity]
    if not kinds:
        st.info("This analysis holds no similarity matrix.")
        return
    widget_state.keep_among("similarity", kinds, kinds[0])
    st.segmented_control(
        "Similarity",
        kinds,
        format_func=lambda kind: KINDS[kind][0],
        key="similarity",
        required=True,
    )
    kind = session.value("similarity")
    widgets.chart(
        similarity(measured.similarity[kind].numpy(), kind=kind, best=best, selected=window, planned=planned),
        key="similarity-map",
        width=720,
        on_select=_open_clicked,
        alt="Similarity of the hidden states at all borders between layers",
    )
    tokens = measured.cka_tokens if kind == "cka" else measured.n_tokens
    st.caption(
        f"{KINDS[kind][1][0].upper()}{KINDS[kind][1][1:]}, over {tokens:,} tokens. "
        "Red: the window of lowest SBI; black: the open one; dotted: your plan. Click a cell to open its window."
    )


def _open_clicked() -> None:
    points = session.clicked("similarity-map")
    if points:
        first, last = (int(number) for number in points[0]["customdata"][:2])
        if last > first:
            session.put("first", first)
            session.put("last", min(last, first + LONGEST - 1))


def _card(measured: Measurement, facts: Facts) -> None:
    st.header("One window")
    with st.container(horizontal=True):
        st.number_input("First layer", 0, facts.layers - 2, key="first", width=130)
        st.number_input("Last layer", 1, facts.layers - 1, key="last", width=130)
    first, last = session.value("first"), session.value("last")
    if last <= first or last - first + 1 > LONGEST:
        st.warning(f"A window goes from a lower to a higher layer and holds 2 to {LONGEST} layers.")
        return
    try:
        (found,) = come.draft(measured, windows=[(first, last)], model=facts)
    except ComeError as error:
        st.warning(formats.sentence(str(error)))
        return
    removed = last - first
    shown = {
        "SBI": "not measured" if math.isnan(found.skip_influence) else f"{found.skip_influence:.4f}",
        **{
            KINDS[kind][0]: f"{matrix[first, last + 1]:.4f}"
            for kind in ("cosine", "cka")
            if (matrix := measured.similarity.get(kind)) is not None
        },
        "Parameters removed": formats.human_count(removed * facts.layer_parameters),
    }
    widgets.facts_grid(shown)
    widgets.chart(
        figures.puzzle(first, found.ratio, found.kv_groups, found.channels, facts.layers),
        key="puzzle",
        alt="What the merged layer keeps of each of its sources",
    )
    influences = ", ".join(
        f"{measured.block_influence[layer]:.4f} for layer {layer}" for layer in range(first, last + 1)
    )
    st.caption(f"BI: {influences}.")
    _add(first, last)


def _add(first: int, last: int) -> None:
    windows = session.draft().windows or []
    if (first, last) in windows:
        st.button("Remove from plan", on_click=session.remove_window, args=(first, last), icon=":material/remove:")
        return
    overlaps = [f"{a} to {b}" for a, b in windows if not (b < first or a > last)]
    st.button(
        "Add to plan",
        on_click=visit.add_window,
        args=(first, last),
        type="primary",
        icon=":material/add:",
        help=f"Replaces {' and '.join(overlaps)}." if overlaps else None,
    )
    if session.draft().windows is None:
        st.caption(
            "Your plan is automatic now. Adding a window replaces it with a plan by hand that holds this window only."
        )


def _stability(measured: Measurement, stability: dict[str, Any]) -> None:
    st.header("How sure is the choice?")
    (a, b), (c, d) = stability["best_halves"]
    if (a, b) == (c, d):
        agreement = f"Both halves of the text choose layers **{a} to {b}**."
    else:
        agreement = f"One half of the text chooses layers **{a} to {b}**, the other **{c} to {d}**."
    rho = stability["rank_correlation"]
    st.markdown(f"{agreement} Over all windows the halves' rankings agree with Spearman's ρ = **{rho:.3f}**.")
    jaccard = measured.channel_stability()
    same = 2 * jaccard / (1 + jaccard)  # both sets are equally large, so this is the share of either
    weakest = int(same.argmin())
    st.markdown(
        "If half of each layer's FFN channels were kept, both halves of the text would choose the same "
        f"**{float(same.mean()):.0%}** of them on average, least in layer {weakest} ({float(same[weakest]):.0%})."
    )


page()
