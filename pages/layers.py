"""Which layers are alike: similarity at the borders, what merging a window keeps and costs, influence of each layer."""

from __future__ import annotations

import math
from typing import Any

import streamlit as st

from app import formats
from app.components import poll, widgets
from app.components.how_sure import how_sure
from app.figures import layers as figures
from app.figures.similarity import KINDS, similarity
from app.layers import costs, edited, legend, needed
from app.state import cached, foreseen, session, visit, widget_state
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.registry import fits_windows
from come.runs import Run
from come.text import short_name

LONGEST = 32  # layers a window, at most

FORMULAS = r"""
$H^{(l)}$ is the hidden state that enters layer $l$; $H^{(L)}$ leaves the model.

**Block influence**, how far one layer turns the state:

$$\mathrm{BI}_l = \operatorname{mean}_t\,\bigl(1 - \cos(H^{(l)}_t, H^{(l+1)}_t)\bigr)$$

**Skip block influence**, how far $m$ layers together turn it:

$$\mathrm{SBI}_{l,m} = \operatorname{mean}_t \arccos\bigl(\cos(H^{(l)}_t, H^{(l+m)}_t)\bigr) / \pi$$

CoMe merges the window of lowest SBI, and takes from each of its layers a share in proportion to BI. CoMe-Joint goes by
what a merge costs, which is measured further down.
"""

READING = """
Each cell compares the hidden states at two borders between layers: {what}, over {tokens:,} tokens. The layers between
them are the cell's window: the brighter, the less they change. The last state leaves the model. Each step of the
colours holds as many cells.
"""


def page() -> None:
    st.title("Layers")
    measured, facts, is_example, run = visit.analysis()
    if measured is None or run is None:
        widgets.no_analysis()
        return
    stability = measured.window_stability()
    best = tuple(stability["best"])
    widget_state.keep_among("first", list(range(facts.layers - 1)), best[0])
    widget_state.keep_among("last", list(range(1, facts.layers)), best[1])
    window = (session.value("first"), session.value("last"))
    kept = visit.units_kept(measured, facts)
    planned = [] if kept is None else kept.windows
    matrix, card = st.columns([1.25, 1], gap="medium")
    with matrix:
        _matrix(measured, best, window, planned)
    with card:
        _card(run, measured, facts, is_example, planned, stability)
    follow = costs.draw(run, measured, facts, is_example, _sizes(measured, facts), planned)
    _influence(measured, planned, window)
    follow += needed.draw(run, measured, facts, is_example)
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


def _matrix(
    measured: Measurement, best: tuple[int, int], window: tuple[int, int], planned: list[tuple[int, int]]
) -> None:
    kinds = [kind for kind in KINDS if kind in measured.similarity]
    if not kinds:
        st.info("This analysis holds no similarity matrix.")
        return
    widget_state.keep_among("similarity", kinds, kinds[0])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.segmented_control(
            "Similarity",
            kinds,
            format_func=lambda kind: KINDS[kind][0],
            key="similarity",
            required=True,
            label_visibility="collapsed",
        )
        kind = session.value("similarity")
        tokens = measured.cka_tokens if kind == "cka" else measured.n_tokens
        widgets.info("How to read this", READING.format(what=KINDS[kind][1], tokens=tokens), key="formula-similarity")
    widgets.chart(
        similarity(
            measured.similarity[kind].numpy(),
            kind=kind,
            influence=measured.block_influence.numpy(),
            best=best,
            selected=window,
            planned=planned,
        ),
        key="similarity-map",
        width=720,
        on_select=_open_clicked,
        zooms=False,
        alt="Similarity of the hidden states at all borders between layers, and block influence of each layer",
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        st.caption("Click opens a window.", width="content")
        legend.draw()


def _open_clicked() -> None:
    points = session.clicked("similarity-map")
    if points:
        first, last = (int(number) for number in points[0]["customdata"][:2])
        if last > first:
            session.put("first", first)
            session.put("last", min(last, first + LONGEST - 1))


def _card(
    run: Run,
    measured: Measurement,
    facts: Facts,
    is_example: bool,
    planned: list[tuple[int, int]],
    stability: dict[str, Any],
) -> None:
    st.header("One window", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.number_input("First layer", 0, facts.layers - 2, key="first", width=92)
        st.number_input("Last layer", 1, facts.layers - 1, key="last", width=92)
        first, last = session.value("first"), session.value("last")
        problem = _problem(first, last)
        _add(first, last, planned, disabled=bool(problem))
    edited.draw("card", "" if problem else _standing(first, last, planned))
    if problem:
        st.warning(problem)
        return
    try:
        found, method, guessed = foreseen.of_window(
            session.draft(), (first, last), measured, facts, session.choice().seed, visit.costs()
        )
    except ComeError as error:
        st.warning(formats.sentence(str(error)))
        return
    cost = next((each for each in cached.window_costs(run) if each.window == (first, last)), None)
    shown = {
        "Skip block influence (SBI)": "not measured"
        if math.isnan(found.skip_influence)
        else f"{found.skip_influence:.4f}",
        **{
            name: f"{matrix[first, last + 1]:.4f}"
            for kind, name in (("cosine", "Cosine similarity"), ("cka", "Kernel alignment (CKA)"))
            if (matrix := measured.similarity.get(kind)) is not None
        },
        "Divergence (KL), CoMe-Joint": f"{cost.merged:.3f}" if cost else "not measured",
        "Parameters removed": formats.human_count((last - first) * facts.layer_parameters),
    }
    widgets.facts_grid(shown)
    widgets.chart(
        figures.puzzle(first, found.ratio, found.kv_groups, found.channels, facts.layers, method.title),
        key="puzzle",
        alt="What the merged layer keeps of each of its sources",
    )
    influences = ", ".join(f"{measured.block_influence[layer]:.4f}" for layer in range(first, last + 1))
    shares = (
        f"{method.title} solves in the run for which units stay: the chart is a guess by their sensitivity, as it is "
        "on the plan page."
        if guessed
        else f"{method.title}'s shares follow it, unless your plan has ratios of its own."
    )
    here = f"BI of layers {first} to {last}: {influences}. {shares}"
    with st.container(horizontal=True, vertical_alignment="center"):
        widgets.info("What are BI and SBI?", f"{FORMULAS}\n{here}", key="formula-influence")
        how_sure(_stability(run, measured, stability), key="sure-of-windows")
        if is_example:
            st.caption(":material/bookmark: Shipped example", width="content")


def _problem(first: int, last: int) -> str:
    if last <= first or last - first + 1 > LONGEST:
        return f"A window goes from a lower to a higher layer and holds 2 to {LONGEST} layers."
    return ""


def _add(first: int, last: int, planned: list[tuple[int, int]], disabled: bool) -> None:
    """Put the window into the plan, or take it out: as wide either way, so that nothing beside it moves."""
    inside = (first, last) in planned
    automatic = session.draft().windows is None and bool(planned)
    st.button(
        "Remove" if inside else "Add to plan",
        key="change-plan",
        on_click=visit.remove_window if inside else visit.add_window,
        args=(first, last),
        type="secondary" if inside else "primary",
        icon=":material/remove:" if inside else ":material/add:",
        disabled=disabled,
        help="Makes your automatic plan one by hand; its other windows stay." if automatic else None,
        width=144,
    )


def _standing(first: int, last: int, planned: list[tuple[int, int]]) -> str:
    """What the plan has to do with the window."""
    if (first, last) in planned:
        return "In your plan."
    overlapped = visit.overlapping(first, last, planned)
    return f"Adding it replaces {overlapped}." if overlapped else "Not in your plan."


def _stability(run: Run, measured: Measurement, stability: dict[str, Any]) -> str:
    """How far what is shown depends on which half of the text was read (markdown)."""
    (a, b), (c, d) = stability["best_halves"]
    if (a, b) == (c, d):
        agreement = f"Both halves of the text choose layers **{a} to {b}**."
    else:
        agreement = f"One half of the text chooses layers **{a} to {b}**, the other **{c} to {d}**."
    jaccard = measured.channel_stability()
    same = 2 * jaccard / (1 + jaccard)  # both sets are equally large, so this is the share of either
    weakest = int(same.argmin())
    return (
        f"Means over {measured.n_tokens:,} tokens of {formats.literal(short_name(run.config.text))}, by this program. "
        f"{agreement} Over all windows the halves' rankings agree with Spearman's ρ = "
        f"**{stability['rank_correlation']:.3f}**.\n\n"
        "If half of each layer's FFN channels were kept, both halves of the text would choose the same "
        f"**{float(same.mean()):.0%}** of them on average, least in layer {weakest} ({float(same[weakest]):.0%})."
    )


def _influence(measured: Measurement, planned: list[tuple[int, int]], window: tuple[int, int]) -> None:
    st.header("Influence")
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
            f"Means over {measured.n_tokens:,} tokens. Dashes: the same numbers, measured on each half of the text.",
            key="sure-of-influence",
        )


page()
