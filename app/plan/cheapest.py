"""The plan page's list of the cheapest windows, as they are measured in the background: sorted, each with "add"."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.components import glossary, widgets, window_costs
from app.components.how_sure import how_sure
from app.components.poll import Look
from app.state import session, visit
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.forecast import Forecast
from come.pruning.windows import WindowCost
from come.runs import Run

MOST = 10
ADD = "add-cheapest"
ABOUT = (
    "If the window becomes one layer: the divergence (KL) from the original in nats per token, on tokens that nothing "
    "is fitted on: the last of the calibration's, and as many of *mix*. A prediction is of other tokens, so its KL is "
    "another number. Cheapest first, by what each layer that it saves costs."
)


def draw(run: Run, measured: Measurement, facts: Facts, is_example: bool, found: Forecast | None) -> list[Look]:
    """The list; what the page is to follow while more are measured."""
    planned = [window.last - window.first + 1 for window in found.windows] if found else []
    sizes = sorted({2, *planned})
    job, known, left = window_costs.measuring(run, measured, facts, is_example, sizes)
    if not known and job.status != "working":
        return []
    st.header("Cheapest windows")
    ranked = sorted(known, key=_by_layer)[:MOST]
    if ranked:
        _table(ranked, facts)
        if words := _not_listed(known):
            st.caption(words)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(f"On {window_costs.SCORED_ON}.", width="content")
        how_sure(ABOUT, key="how-sure-windows")
        widgets.next_step("layers", "What makes the cost")
    return [] if is_example else window_costs.standing(run, job, sizes, len(left))


def _not_listed(known: Sequence[WindowCost]) -> str:
    """Which windows of the plan were not measured, so that nobody looks for them in the list."""
    measured = {cost.window for cost in known}
    missing = [f"{first}–{last}" for first, last in visit.shown_plan().windows or [] if (first, last) not in measured]
    return f"Not measured, so not listed: {', '.join(missing)} of {session.plan_named()}." if missing else ""


def _by_layer(cost: WindowCost) -> float:
    return cost.merged / (cost.last - cost.first)


def _table(ranked: Sequence[WindowCost], facts: Facts) -> None:
    plan = visit.shown_plan()
    planned = plan.windows or []
    rows = {
        "Layers": [f"{cost.first}–{cost.last}" for cost in ranked],
        "Add": [window_costs.does(cost, planned) for cost in ranked],  # in reach on a phone
        "Cost": [cost.merged for cost in ranked],
        "Per layer": [_by_layer(cost) for cost in ranked],
        "Left": [window_costs.layers_left(cost, plan, facts) for cost in ranked],
    }
    if all(cost.last - cost.first == 1 for cost in ranked):  # then both costs are the same
        del rows["Per layer"]
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height="content",
        key="cheapest-windows",
        column_config={
            "Cost": st.column_config.NumberColumn(
                "Cost of merging, nats", format="%.3f", help=f"Divergence (KL). {glossary.NATS}"
            ),
            "Per layer": st.column_config.NumberColumn(
                "Cost per layer saved", format="%.3f", help="The list is in this order."
            ),
            "Left": st.column_config.NumberColumn("Layers left", help=f"{window_costs.LEFT}."),
            "Add": st.column_config.ButtonColumn("", type="secondary", key=ADD, on_click=_add, args=(ranked,)),
        },
    )


def _add(ranked: Sequence[WindowCost]) -> None:
    clicked = session.value(ADD)
    row = clicked.row if clicked is not None else None
    if row is not None and 0 <= row < len(ranked):
        visit.add_window(ranked[row].first, ranked[row].last)
