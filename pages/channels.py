"""Which channels and heads matter: the whole model at a glance, then one layer, then one bin."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app.components import widgets
from app.figures import channels as figures
from app.figures import heads, one_layer
from app.state import session, visit, widget_state
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.kept_units import KeptByLayer, KeptUnits

PARTS = {"ffn": "Feed-forward", "attention": "Attention"}
VIEWS: dict[figures.View, str] = {"percentile": "Percentile in its layer", "raw": "Raw", "sorted": "Sorted"}
UNITS = {"ffn": "FFN channel", "attention": "attention channel"}

FORMULA = r"""
**Sensitivity** of channel $j$ of a linear map $W$ fed by $x$:

$$S_j = \operatorname{mean}_t |x_{tj}| \cdot \sum_i |W_{ij}|$$

How strongly the channel speaks, times how widely it is heard. For the feed-forward part $x$ enters
`down_proj`, for attention `o_proj`. A head's sensitivity is the mean over its channels, a KV group's
the mean over the heads that share it.

**Percentile** ranks a channel within its own layer; the colours stretch the upper tail, so that 90, 99 and
99.9% are equal steps. Each column shows the loudest of its channels: a mean would hide single loud ones.
"""


def page() -> None:
    st.title("Channels")
    measured, facts, _, run = visit.analysis()
    if measured is None or run is None:
        widgets.no_analysis()
        return
    widget_state.keep_among("part", list(PARTS), "ffn")
    widget_state.keep_among("view", list(VIEWS), "percentile")
    widget_state.keep_among("layer", list(range(facts.layers)), facts.layers // 2)
    part = session.value("part")
    values = _values(measured, part)
    first, last = widget_state.keep_range("zoom", 0, values.shape[1] - 1)
    st.caption(f"{reading(session.value('view'), last - first + 1)} Click a row to open the layer.")
    widgets.example_note()
    plan = visit.units_kept(measured, facts)
    _controls()
    kept = None if plan is None else plan.layers.get(session.value("layer"))
    _overview(values, facts, part, plan)
    _one_layer(facts, values, part, kept)
    _heads(measured, facts, kept)
    widgets.next_step("layers", "Next: which layers are alike")


def reading(view: figures.View, channels: int) -> str:
    """What rows, columns and colours of the map are, where it shows so many channels."""
    brighter = "the brighter, the more the layer's output depends on"
    if view == "sorted":
        return f"Each row is a layer, its most sensitive channels on the left; {brighter} them."
    if channels <= figures.MAX_BINS:
        return f"Each row is a layer, each column a channel; {brighter} it."
    shown = "Each column is a few neighbouring channels, shown by the most sensitive of them"
    return f"Each row is a layer. {shown}; {brighter} it."


def _controls() -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Part",
            list(PARTS),
            format_func=PARTS.__getitem__,
            key="part",
            required=True,
            on_change=_forget_bin,
        )
        st.segmented_control("Show", list(VIEWS), format_func=VIEWS.__getitem__, key="view", required=True)
        widget_state.keep_among("scale", ["log", "linear"], "log")
        st.segmented_control(
            "Colours",
            ["log", "linear"],
            key="scale",
            required=True,
            disabled=session.value("view") == "percentile",
            help="For raw and sorted values.",
        )
        widgets.info("What is sensitivity?", FORMULA, key="formula-sensitivity")


def _overview(values: np.ndarray, facts: Facts, part: str, plan: KeptByLayer | None) -> None:
    last = values.shape[1] - 1
    span = session.value("zoom")
    figure = figures.heatmap(
        values,
        unit=UNITS[part],
        view=session.value("view"),
        log=session.value("scale") == "log",
        first=span[0],
        last=span[1],
        selected=session.value("layer"),
        kept=None if plan is None else plan.shares(facts, part),
        group_size=facts.head_dim if part == "attention" else None,
    )
    widgets.chart(
        figure,
        key="channel-map",
        on_select=_open_clicked,
        alt="Sensitivity of every channel of every layer",
    )
    ranked = session.value("view") == "sorted"
    st.slider(
        "Ranks shown" if ranked else "Channels shown (a narrower range shows each one)",
        0,
        last,
        key="zoom",
    )
    if plan is not None:
        units = "FFN channels" if part == "ffn" else "KV groups"
        st.caption(
            f"Kept share: how much of each layer's {units} the finished run of your plan kept."
            if plan.exact
            else f"Kept share: how much of each layer's {units} your plan would keep, foreseen from this measurement."
        )


def _open_clicked() -> None:
    """A click on the map opens its layer, and the channels of its bin."""
    points = session.clicked("channel-map")
    if points:
        layer, first, last = (int(number) for number in points[0]["customdata"][:3])
        session.put("layer", layer)
        session.put("bin", None if session.value("view") == "sorted" else (first, last))


def _forget_bin() -> None:
    session.put("bin", None)
    widget_state.forget("zoom")  # the other part counts other units


def _one_layer(facts: Facts, values: np.ndarray, part: str, kept: KeptUnits | None) -> None:
    head, choose = st.columns([3, 1], vertical_alignment="bottom")
    with choose:
        st.selectbox("Layer", list(range(facts.layers)), key="layer")
    layer = session.value("layer")
    head.header(f"Layer {layer}")
    row = values[layer]
    is_kept = None
    if kept is not None and part == "ffn":
        is_kept = np.isin(np.arange(len(row)), kept.channels)
    elif kept is not None:
        is_kept = np.isin(np.arange(len(row)) // (len(row) // facts.num_key_value_heads), kept.kv_groups)
    # The table of attention channels has a column more: their head.
    curve, histogram, table = st.columns([1, 0.9, 1.15] if part == "ffn" else [0.91, 0.95, 1.34], gap="medium")
    with curve:
        widgets.chart(
            one_layer.sorted_curve(
                row,
                layer=layer,
                layers=facts.layers,
                kept=len(kept.channels) if kept is not None and part == "ffn" else None,
                log=session.value("scale") == "log",
                unit=UNITS[part],
            ),
            key="curve",
            alt="Sensitivities of the layer, loudest first",
        )
    with histogram:
        widgets.chart(
            one_layer.distribution(row, layer=layer, layers=facts.layers, kept=is_kept, unit=UNITS[part]),
            key="distribution",
            alt="Distribution of the layer's sensitivities",
        )
    with table:
        _table(row, is_kept, facts, part)


def _table(row: np.ndarray, is_kept: np.ndarray | None, facts: Facts, part: str) -> None:
    """The channels of the clicked bin, or the layer's loudest."""
    bin_shown = session.value("bin")
    if bin_shown and bin_shown[1] < len(row):
        first, last = bin_shown
        chosen = np.arange(first, last + 1)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f"**Channels {first:,} to {last:,}**" if last > first else f"**Channel {first:,}**")
            st.button(
                "Zoom in",
                on_click=_zoom_to,
                args=(first, last, len(row)),
                type="tertiary",
                icon=":material/zoom_in:",
            )
            st.button("Loudest", on_click=session.put, args=("bin", None), type="tertiary", icon=":material/close:")
    else:
        chosen = np.argsort(-row, kind="stable")[:50]
        st.markdown("**The loudest channels**")
    ranks = np.empty(len(row), dtype=int)
    ranks[np.argsort(-row, kind="stable")] = np.arange(1, len(row) + 1)
    columns: dict[str, object] = {
        "channel": chosen,
        "S": row[chosen],
        "× median": row[chosen] / max(float(np.median(row)), 1e-30),
        "rank": ranks[chosen],
    }
    if part == "attention":
        columns["head"] = chosen // facts.head_dim
    if is_kept is not None:
        columns["kept"] = is_kept[chosen]
    st.dataframe(
        pd.DataFrame(columns),
        hide_index=True,
        height=262,
        column_config={
            "S": st.column_config.NumberColumn(format="%.3g"),
            "× median": st.column_config.NumberColumn(format="%.1f"),
        },
        key="channel-table",
    )


def _zoom_to(first: int, last: int, channels: int) -> None:
    margin = max(24, 4 * (last - first + 1))
    session.put("zoom", (max(0, first - margin), min(channels - 1, last + margin)))


def _heads(measured: Measurement, facts: Facts, kept: KeptUnits | None) -> None:
    st.header("Attention heads")
    layer = session.value("layer")
    whole, one = st.columns([1.2, 1], gap="medium")
    with whole:
        widgets.chart(
            heads.heads(measured.head_sensitivity.numpy(), facts.num_key_value_heads, selected=layer),
            key="head-map",
            on_select=_open_head_row,
            alt="Sensitivity of every head of every layer",
        )
    with one:
        widgets.chart(
            heads.layer_heads(
                measured.head_sensitivity[layer].numpy(),
                measured.kv_group_sensitivity[layer].numpy(),
                layer=layer,
                layers=facts.layers,
                kept_groups=None if kept is None else kept.kv_groups,
            ),
            key="layer-heads",
            alt="Sensitivity of the heads of the layer",
        )
        st.caption(
            "Merging keeps or drops whole KV groups: query heads follow the KV head they share, "
            "or they would attend with another's keys."
        )


def _open_head_row() -> None:
    points = session.clicked("head-map")
    if points:
        session.put("layer", int(points[0]["customdata"][0]))
        session.put("bin", None)


def _values(measured: Measurement, part: str) -> np.ndarray:
    tensor = measured.mlp_sensitivity if part == "ffn" else measured.attention_sensitivity
    return tensor.numpy()


page()
