"""Which channels and heads matter: the whole model at a glance, then one layer, then one bin."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import streamlit as st

from app import formats
from app.channels import card
from app.components import poll, widgets
from app.components.how_sure import how_sure
from app.figures import channels as figures
from app.figures import heads, one_layer
from app.state import session, visit, widget_state
from come.measurement.measurement import Measurement
from come.models import Facts
from come.plan.trace import asked
from come.pruning.kept_units import KeptByLayer, KeptUnits
from come.runs import Run
from come.text import short_name

PARTS = {"ffn": "Feed-forward (FFN)", "attention": "Attention"}
VIEWS: dict[figures.View, str] = {"sorted": "Sorted", "raw": "In order", "percentile": "Percentile"}
UNITS = {"ffn": "FFN channel", "attention": "attention channel"}

FORMULA = r"""
**Sensitivity** of channel $j$ of a linear map $W$ fed by $x$:

$$S_j = \operatorname{mean}_t |x_{tj}| \cdot \sum_i |W_{ij}|$$

How active the channel is, times how much weight carries it on. $x$ enters `down_proj` in the feed-forward part,
`o_proj` in attention. A head's sensitivity is the mean over its channels, a KV group's the mean over its heads.

**Percentile** ranks a channel within its layer; 90, 99 and 99.9% are equal steps of the colours. Each column shows the
most sensitive of its channels: a mean would hide single ones.
"""


def page() -> None:
    st.title("Channels")
    measured, facts, is_example, run = visit.analysis()
    if measured is None or run is None:
        widgets.no_analysis()
        return
    widget_state.keep_among("part", list(PARTS), "ffn")
    widget_state.keep_among("view", list(VIEWS), "sorted")
    part = session.value("part")
    values = _values(measured, part)
    widget_state.keep_among("layer", list(range(facts.layers)), figures.most_concentrated(values))
    widget_state.keep_among("channel", list(range(values.shape[1])), None)
    widget_state.keep_among("scale", ["log", "linear"], "log")
    widget_state.keep_range("zoom", 0, values.shape[1] - 1)
    plan = visit.units_kept(measured, facts)
    st.caption(reading(session.value("view"), _shown_at_once(), plan))
    _controls(facts, part, values.shape[1])
    kept = None if plan is None else plan.layers.get(session.value("layer"))
    _overview(values, facts, part, plan)
    layer = session.value("layer")
    opened = session.value("channel")
    channel = int(values[layer].argmax()) if opened is None else opened
    follow = card.draw(run, facts, values[layer], part, layer, channel, plan)
    _sure(run, measured, is_example)
    _one_layer(facts, values, part, kept)
    _heads(measured, facts, kept)
    widgets.next_step("layers", "Next: which layers are alike")
    poll.follow(follow)


def _sure(run: Run, measured: Measurement, is_example: bool) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if is_example:
            st.caption(":material/bookmark: Shipped example", width="content")
        how_sure(
            f"One pass over {measured.n_tokens:,} tokens of {formats.literal(short_name(run.config.text))}, by this "
            "program. How many channels each half of the text would keep: see *How sure?* on the layers page.",
            key="sure-of-channels",
        )


def _shown_at_once() -> int:
    first, last = session.value("zoom")
    return int(last - first + 1)


def reading(view: figures.View, channels: int, plan: KeptByLayer | None = None) -> str:
    """What rows, columns and colours of the map are, where it shows so many channels, and what hatching is."""
    columns = "the most sensitive channels on the left"
    if view != "sorted":
        binned = channels > figures.MAX_BINS
        columns = (
            "each column a few neighbouring channels, by the most sensitive" if binned else "each column a channel"
        )
    hatched = ""
    if plan is not None:
        hatched = " Hatched: dropped by your plan's run." if plan.exact else " Hatched: what your plan would drop."
    return f"A row is a layer, {columns}.{hatched} Click a channel, drag to zoom."


def _controls(facts: Facts, part: str, channels: int) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        st.text_input(
            "Find a channel",
            key="find-channel",
            placeholder=f"layer {facts.layers // 2} channel {min(345, channels - 1)}",
            label_visibility="collapsed",
            icon=":material/search:",
            on_change=_find,
            args=(facts.layers, channels),
            max_chars=60,
            width=170,
        )
        st.segmented_control(
            "Part",
            list(PARTS),
            format_func=PARTS.__getitem__,
            key="part",
            required=True,
            on_change=_forget_bin,
            label_visibility="collapsed",
        )
        st.segmented_control(
            "Show",
            list(VIEWS),
            format_func=VIEWS.__getitem__,
            key="view",
            required=True,
            on_change=widget_state.forget,
            args=("zoom",),
            label_visibility="collapsed",
        )
        widgets.info("What is sensitivity?", FORMULA, key="formula-sensitivity")
    problem = _not_found(session.value("find-channel") or "", facts.layers, channels)
    if problem:
        st.warning(problem)


def _not_found(text: str, layers: int, channels: int) -> str:
    """Why what was typed names no channel, as a sentence; "" where it does, or nothing was typed."""
    if not text.strip():
        return ""
    wanted = asked(text)
    if wanted is None:
        return 'Write a layer and a channel, such as "layer 12 channel 1".'
    if wanted[0] >= layers or wanted[1] >= channels:
        return f"There are layers 0 to {layers - 1}, each with channels 0 to {channels - 1:,}."
    return ""


def _find(layers: int, channels: int) -> None:
    text = session.value("find-channel") or ""
    wanted = asked(text)
    if wanted is not None and not _not_found(text, layers, channels):
        _open(*wanted)


def _open(layer: int, channel: int) -> None:
    session.put("layer", layer)
    session.put("channel", channel)
    session.put("bin", None)


def _overview(values: np.ndarray, facts: Facts, part: str, plan: KeptByLayer | None) -> None:
    channels = values.shape[1]
    span = session.value("zoom")
    kept = None
    if plan is not None:
        mask = plan.mask(facts, part)
        kept = np.repeat(mask, channels // mask.shape[1], axis=1)
    widgets.chart(
        figures.heatmap(
            values,
            unit=UNITS[part],
            view=session.value("view"),
            log=session.value("scale") == "log",
            first=span[0],
            last=span[1],
            selected=session.value("layer"),
            channel=session.value("channel"),
            kept=kept,
            group_size=facts.head_dim if part == "attention" else None,
        ),
        key="channel-map",
        on_select=_chosen,
        zooms=False,
        alt="Sensitivity of every channel of every layer; those that the plan drops are hatched",
    )
    # Where to the map was zoomed by a drag: app/static/drag_zoom.js writes it here, and nobody sees it.
    st.html("<style>.st-key-zoom-to { display: none; }</style>")
    st.text_input("Zoomed to", key="zoom-to", on_change=_zoomed, args=(channels,), max_chars=60)
    ranked = session.value("view") == "sorted"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.slider("Ranks shown, from 0" if ranked else "Channels shown", 0, channels - 1, key="zoom")
        with st.popover("Colours", icon=":material/palette:", type="tertiary"):
            st.segmented_control(
                "Colours",
                ["log", "linear"],
                key="scale",
                required=True,
                disabled=session.value("view") == "percentile",
                help="For sorted and raw values.",
            )
        if span != (0, channels - 1):
            st.button(
                "Whole map",
                key="whole-map",
                icon=":material/zoom_out_map:",
                on_click=widget_state.forget,
                args=("zoom",),
            )


def _chosen() -> None:
    """A click on the map opens its layer, its channel, and the channels of its bin."""
    points = session.clicked("channel-map")
    if points:
        layer, low, high, channel = (int(number) for number in points[0]["customdata"][:4])
        _open(layer, channel)
        session.put("bin", None if session.value("view") == "sorted" else (low, high))


def _zoomed(channels: int) -> None:
    """The map was dragged over: what is in sight is binned anew."""
    ends = [float(end) for end in re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", session.value("zoom-to") or "")][:2]
    session.put("zoom-to", "")
    shown = sorted(figures.place_at(end, session.value("view"), channels) for end in ends)
    if len(shown) == 2 and shown[0] < shown[1]:
        session.put("zoom", (shown[0], shown[1]))


def _forget_bin() -> None:
    session.put("bin", None)
    widget_state.forget("channel")
    widget_state.forget("zoom")  # the other part counts other units


def _one_layer(facts: Facts, values: np.ndarray, part: str, kept: KeptUnits | None) -> None:
    head, choose = st.columns([3, 1], vertical_alignment="bottom")
    with choose:
        st.selectbox("Layer", list(range(facts.layers)), key="layer", on_change=widget_state.forget, args=("channel",))
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
            alt="Sensitivities of the layer, the highest first",
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
    """The channels of the clicked bin, or the layer's most sensitive."""
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
            st.button("Back", on_click=session.put, args=("bin", None), type="tertiary", icon=":material/close:")
    else:
        chosen = np.argsort(-row, kind="stable")[:50]
        st.markdown("**The most sensitive**")
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
        st.caption("Lines: group means. Merging keeps or drops groups whole: their heads share keys and values (KV).")


def _open_head_row() -> None:
    points = session.clicked("head-map")
    if points:
        session.put("layer", int(points[0]["customdata"][0]))
        session.put("bin", None)
        widget_state.forget("channel")


def _values(measured: Measurement, part: str) -> np.ndarray:
    tensor = measured.mlp_sensitivity if part == "ffn" else measured.attention_sensitivity
    return tensor.numpy()


page()
