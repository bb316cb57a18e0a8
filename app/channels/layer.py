"""One layer of the channels page: its sorted curve, its distribution, its channels as a table; its attention heads."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from app.channels.whole_map import UNITS, forget_search
from app.components import widgets
from app.figures import heads as figures
from app.figures import one_layer
from app.state import session, widget_state
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.kept_units import KeptUnits


def draw(facts: Facts, values: np.ndarray, part: str, kept: KeptUnits | None) -> None:
    """The layer: its curve, its distribution and its channels.

    Args:
        facts: of the model.
        values: (layers, channels) sensitivities of the part.
        part: "ffn" or "attention".
        kept: the layer's units that the plan keeps; None where it says nothing of them.
    """
    head, choose = st.columns([3, 1], vertical_alignment="bottom")
    with choose:
        st.selectbox(
            "Layer",
            list(range(facts.layers)),
            key="layer",
            format_func="Layer {}".format,
            on_change=_other_layer,
            label_visibility="collapsed",
        )
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


def _other_layer() -> None:
    widget_state.forget("channel")
    forget_search()


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


def heads(measured: Measurement, facts: Facts, kept: KeptUnits | None) -> None:
    """Sensitivity of all attention heads, and of the layer's, by the keys and values that they share."""
    st.header("Attention heads")
    layer = session.value("layer")
    whole, one = st.columns([1.2, 1], gap="medium")
    with whole:
        widgets.chart(
            figures.heads(measured.head_sensitivity.numpy(), facts.num_key_value_heads, selected=layer),
            key="head-map",
            on_select=_open_head_row,
            alt="Sensitivity of every head of every layer",
        )
    with one:
        widgets.chart(
            figures.layer_heads(
                measured.head_sensitivity[layer].numpy(),
                measured.kv_group_sensitivity[layer].numpy(),
                layer=layer,
                layers=facts.layers,
                kept_groups=None if kept is None else kept.kv_groups,
            ),
            key="layer-heads",
            alt="Sensitivity of the heads of the layer",
        )
        st.caption("Lines: group means. Groups are kept or dropped whole: their heads share keys and values (KV).")


def _open_head_row() -> None:
    points = session.clicked("head-map")
    if points:
        session.put("layer", int(points[0]["customdata"][0]))
        session.put("bin", None)
        widget_state.forget("channel")
