"""The map of all channels: which part and in which order, the search for one, the map, and what narrows it."""

from __future__ import annotations

import re

import numpy as np
import streamlit as st

from app.components import widgets
from app.figures import channels as figures
from app.figures.channel_findings import View
from app.figures.inspect import FIRST_ATTENTION
from app.state import session, widget_state
from come.models import Facts
from come.plan.trace import asked
from come.pruning.kept_units import KeptByLayer
from come.pruning.registry import fits_windows, keeps_first_attention

PARTS = {"ffn": "Feed-forward (FFN)", "attention": "Attention"}
VIEWS: dict[View, str] = {"sorted": "Sorted", "raw": "In order", "percentile": "Percentile"}
UNITS = {"ffn": "FFN channel", "attention": "attention channel"}

FORMULA = r"""
**Sensitivity** of channel $j$ of a linear map $W$ fed by $x$:

$$S_j = \operatorname{mean}_t |x_{tj}| \cdot \sum_i |W_{ij}|$$

How active the channel is, times how much weight carries it on. $x$ enters `down_proj` in the feed-forward part,
`o_proj` in attention. A head's sensitivity is the mean over its channels, a KV group's the mean over its heads.

**Percentile** ranks a channel within its layer; 90, 99 and 99.9% are equal steps of the colours. Each column shows the
most sensitive of its channels: a mean would hide single ones.
"""


def controls(facts: Facts, part: str, channels: int) -> None:
    """The search for a channel, which part of the layers, in which order; what sensitivity is."""
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


def forget_search() -> None:
    """Empty the field: another channel is open than the one that was looked for."""
    session.put("find-channel", "")


def _open(layer: int, channel: int) -> None:
    session.put("layer", layer)
    session.put("channel", channel)
    session.put("bin", None)


def _forget_bin() -> None:
    forget_search()
    session.put("bin", None)
    widget_state.forget("channel")
    widget_state.forget("zoom")  # the other part counts other units


def draw(values: np.ndarray, facts: Facts, part: str, plan: KeptByLayer | None) -> None:
    """The map, and what narrows it.

    Args:
        values: (layers, channels) sensitivities of the part.
        facts: of the model.
        part: "ffn" or "attention".
        plan: which units the visitor's plan keeps; None where only a run tells.
    """
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
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.caption(reading(plan, kept, session.value("layer"), part), width="content")
        with st.popover("Zoom and colours", icon=":material/palette:", type="tertiary"):
            _shown(span, channels)
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


def reading(
    plan: KeptByLayer | None = None, kept: np.ndarray | None = None, opened: int | None = None, part: str = "ffn"
) -> str:
    """What hatching and the frame are on the map, and what clicks do; `kept`: (layers, channels)."""
    told = ["Click a channel, drag to zoom."]
    if plan is not None:
        name, why = session.plan_named(), _why(plan, part)
        hatched = f"dropped by the run of {name}" if plan.exact else f"what {name} would drop"
        told.insert(0, f"Hatched: {hatched}{_shares(kept)}{why}")
        if opened is not None:
            told.insert(
                1, f"Framed: layer {opened}{', its first' if plan.layers and opened == min(plan.layers) else ''}."
            )
    return " ".join(told)


def _why(plan: KeptByLayer, part: str) -> str:
    """The sentence's end: by what the plan's method drops units of merged layers, where that is not sensitivity."""
    draft = session.draft()
    if not plan.windows or not fits_windows(draft.method):
        return "."
    if part == "attention" and keeps_first_attention(draft.method, draft.options):
        return f". {FIRST_ATTENTION}"
    if plan.exact:
        return ", chosen by what channels give together, not by sensitivity alone."
    return ", an estimate by sensitivity." if part == "ffn" else ", an estimate."


def _shares(kept: np.ndarray | None) -> str:
    """How much is dropped of which layers, those that lose channels: on a log axis it looks like little."""
    lost = np.zeros(0) if kept is None else 1 - kept.mean(axis=1)
    layers = np.flatnonzero(lost)
    if not len(layers):
        return ""
    ends = sorted({round(100 * share) for share in lost[layers]})
    share = f"{ends[0]}%" if len(ends) == 1 else f"{ends[0]} to {ends[-1]}%"
    in_a_row = layers[-1] - layers[0] == len(layers) - 1
    named = f"layers {layers[0]}–{layers[-1]}" if in_a_row and len(layers) > 1 else f"{len(layers)} layers"
    return f" ({share} of {named if len(layers) > 1 else f'layer {layers[0]}'})"


def _shown(span: tuple[int, int], channels: int) -> None:
    """The slider of what the map shows: ranks, which people count from 1, or channels, whose numbers begin at 0."""
    ranked = session.value("view") == "sorted"
    begin = 1 if ranked else 0
    session.put("zoom-shown", (span[0] + begin, span[1] + begin))
    st.slider(
        "Ranks shown" if ranked else "Channels shown",
        begin,
        channels - 1 + begin,
        key="zoom-shown",
        on_change=_narrowed,
        args=(begin,),
    )


def _narrowed(begin: int) -> None:
    first, last = session.value("zoom-shown")
    session.put("zoom", (first - begin, last - begin))


def _chosen() -> None:
    """A click on the map opens its layer, its channel, and the channels of its bin."""
    points = session.clicked("channel-map")
    if points:
        layer, low, high, channel = (int(number) for number in points[0]["customdata"][:4])
        forget_search()
        _open(layer, channel)
        session.put("bin", None if session.value("view") == "sorted" else (low, high))


def _zoomed(channels: int) -> None:
    """The map was dragged over: what is in sight is binned anew."""
    ends = [float(end) for end in re.findall(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?", session.value("zoom-to") or "")][:2]
    session.put("zoom-to", "")
    shown = sorted(figures.place_at(end, session.value("view"), channels) for end in ends)
    if len(shown) == 2 and shown[0] < shown[1]:
        session.put("zoom", (shown[0], shown[1]))
