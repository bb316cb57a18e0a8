"""The inspect page's open layer: its pieces, its sources' units as tiles, their sensitivities with the cut."""

from __future__ import annotations

from typing import Any

import pandas as pd
import streamlit as st

import come
from app import formats
from app.components import widgets
from app.components.how_sure import how_sure
from app.figures import inspect, inspect_curves, inspect_layer
from app.inspect import follow_unit, inspected_run
from app.inspect.inspected_run import Inspected
from app.state import session, visit, widget_state
from come.errors import ComeError
from come.plan.provenance import retouched
from come.plan.steps import Part
from come.plan.trace import asked
from come.pruning.registry import fits_windows, keeps_first_attention

ORDERS: dict[inspect_layer.Order, str] = {"rank": "By sensitivity", "index": "By index"}

SURE_OF_CUT = "As many units were kept as lie left of the cut; the curve is solid where most are kept. "
SURE_OF_S = "S is that of the original model"
SURE_OF_CHOICE = (
    ": CoMe measures again after each merge, and CoMe-Joint solves for the units to "
    "keep, so neither need keep just the most sensitive."
)


def pieces(inspected: Inspected) -> None:
    """Which layer is open, and what it is made of: a bar, and the same as a table."""
    place = session.value("new-layer")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.header(f"New layer {place}", width="content")
        st.selectbox(
            "New layer",
            list(range(len(inspected.ffn.final))),
            key="new-layer",
            format_func=lambda each: f"{each} · from {formats.ranges(inspected.ffn.final[each].group)}",
            width=240,
            label_visibility="collapsed",
        )
    widgets.chart(
        inspect_layer.pieces_bar(inspected.ffn, inspected.attention, place, session.value("part")),
        key="pieces",
        alt="The pieces of the new layer; the table under it holds them",
    )
    rows = _rows(inspected, place)
    st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        height="content",
        key="pieces-table",
        column_config={
            "FFN channels": st.column_config.NumberColumn("Channels", format="localized"),
            "FFN share": st.column_config.NumberColumn("FFN %", format="%.0f"),
            "KV groups": st.column_config.NumberColumn("Groups"),
            "KV share": st.column_config.NumberColumn("KV %", format="%.0f"),
            "Weight": st.column_config.NumberColumn(format="%.3g"),
        },
    )
    steps = retouched(inspected.plan).get(place, [])
    if steps:
        names = inspect.listed([step + 1 for step in steps])
        st.caption(
            "The pieces say where units come from. Their weights were then fitted or trained anew, in "
            f"step{'s' if len(steps) > 1 else ''} {names} of the plan."
        )


def _rows(inspected: Inspected, place: int) -> list[dict[str, Any]]:
    """A line for each source of a new layer, and one for what was silenced."""
    ffn, attention = (
        {piece.source: piece for piece in origins.final[place].pieces}
        for origins in (inspected.ffn, inspected.attention)
    )
    rows = []
    for source in [*inspected.ffn.final[place].group, -1]:
        channels, groups = ffn.get(source), attention.get(source)
        if source < 0 and not (channels or groups):
            continue
        row: dict[str, Any] = {"Source": "silenced" if source < 0 else str(source)}
        piece = channels or groups
        if piece is not None and piece.kind == "averaged":
            row |= {"How": "averaged", "Weight": piece.weight}
        elif inspected.counted:
            row |= {
                "FFN channels": channels.count if channels else 0,
                "FFN share": 100 * channels.share if channels else 0.0,
                "KV groups": groups.count if groups else 0,
                "KV share": 100 * groups.share if groups else 0.0,
            }
        else:
            row["How"] = "whole"
        rows.append(row)
    return rows


def by_unit(inspected: Inspected, part: Part) -> bool:
    """Whether each unit of the open layer's sources is kept or not: none is, where all were averaged."""
    opened = inspected.origins(part).final[session.value("new-layer")]
    return inspected.counted and all(piece.kind != "averaged" for piece in opened.pieces)


def measured(inspected: Inspected, part: Part) -> bool:
    """Whether the sensitivities of the units are known."""
    return inspected_run.sensitivity(inspected_run.measurement(inspected.config), inspected.origins(part)) is not None


def tiles(inspected: Inspected, part: Part) -> None:
    """Every unit of the sources as a tile; a click on one follows it."""
    origins, place = inspected.origins(part), session.value("new-layer")
    values = inspected_run.sensitivity(inspected_run.measurement(inspected.config), origins)
    widget_state.keep_among("order", list(ORDERS), "rank")
    widgets.chart(
        inspect_layer.tiles(
            origins,
            place,
            values,
            session.value("order"),
            asked(session.value("find") or st.query_params.get("find", "")),
        ),
        key="tiles",
        on_select=_find_clicked,
        alt=f"Every one of the {inspect.NAMES[part][1]} of the sources, coloured where it is kept, grey where not",
    )
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        if values is not None:
            st.segmented_control(
                "Order of the tiles",
                list(ORDERS),
                key="order",
                format_func=ORDERS.__getitem__,
                required=True,
                label_visibility="collapsed",
            )
        st.caption(f"Click a tile to follow it. {_why(inspected, part)}".strip())
    if values is None:
        st.caption("By index only: no sensitivity is measured yet. Measure it under “Cut”.")
    elif words := inspected_run.borrowed(inspected.config):
        st.caption(words)


def _why(inspected: Inspected, part: Part) -> str:
    """Why these units stay, where that is not because each is sensitive."""
    method, options = inspected.config.method, inspected.config.options
    joined = len(inspect.sources(inspected.ffn.final[session.value("new-layer")].pieces)) > 1
    if not joined or method not in come.methods() or not fits_windows(method):
        return ""
    if part == "attention" and keeps_first_attention(method, options):
        return inspect.FIRST_ATTENTION
    return f"Which stay is decided by what {inspect.NAMES[part][1]} give together, not one by one."


def curves(inspected: Inspected, part: Part) -> None:
    """The sources' sorted sensitivities with the cut, or the way to measure them."""
    origins, place = inspected.origins(part), session.value("new-layer")
    values = inspected_run.sensitivity(inspected_run.measurement(inspected.config), origins)
    if values is None:
        _not_measured(inspected, part)
        return
    widget_state.keep_among("curve-scale", ["log", "linear"], "log")
    figure = inspect_curves.curves(origins, place, values, log=session.value("curve-scale") == "log")
    cut = bool(inspect_curves.sources_cut(origins, place))
    widgets.chart(
        figure,
        key="source-curves",
        alt=f"Sorted sensitivities of the source layers{', with the cut of each' * cut}",
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.segmented_control(
            "Scale of the sensitivity",
            ["log", "linear"],
            key="curve-scale",
            required=True,
            label_visibility="collapsed",
        )
        if marks := inspect_curves.marks(figure):
            st.caption(marks, width="content")
        how_sure(_sure(cut, _why(inspected, part) == inspect.FIRST_ATTENTION), key="sure-of-cut")
    if words := inspected_run.borrowed(inspected.config):
        st.caption(words)


def _sure(cut: bool, rule: bool) -> str:
    """What the sensitivities say of the choice: nothing, where a rule made it or nothing was chosen."""
    if rule:
        return f"{SURE_OF_S}, and decides nothing here. {inspect.FIRST_ATTENTION}"
    return f"{SURE_OF_CUT}{SURE_OF_S}{SURE_OF_CHOICE}" if cut else f"{SURE_OF_S}."


def _find_clicked() -> None:
    points = session.clicked("tiles")
    if points:
        layer, unit = (int(number) for number in points[0]["customdata"][:2])
        session.put("find", follow_unit.written(session.value("part"), layer, unit))


def _not_measured(inspected: Inspected, part: Part) -> None:
    """Where there is no measurement: progress, or the way to one."""
    active = inspected_run.active_analysis(inspected.config)
    if active is not None:
        widgets.progress(active)
        return
    with st.container(border=True):
        st.markdown("**The sensitivities of this model on this text were not measured.**")
        st.markdown(
            f"One pass over {inspected.config.n_tokens:,} tokens shows how each {inspect.NAMES[part][0]} ranks, "
            "and how sharp the cut was."
        )
        st.button(
            "Run the analysis", key="analyse-run", icon=":material/monitoring:", on_click=_analyse, args=(inspected,)
        )
    problem = session.take_problem()
    if problem:
        st.error(problem, icon=":material/error:")


def _analyse(inspected: Inspected) -> None:
    try:
        visit.start_analysis(inspected_run.analysis_of(inspected.config))
    except ComeError as error:
        session.set_problem(str(error))
