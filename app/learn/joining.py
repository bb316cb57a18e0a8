"""Step 4: two layers become one."""

from __future__ import annotations

import numpy as np
import streamlit as st

import come
from app import theme
from app.components import widgets
from app.figures import lesson
from app.figures.lesson import Stripes
from app.learn import frame, material
from app.learn.material import Material
from app.state import session, widget_state
from come.pruning.draft import DraftWindow

TITLE = "Two layers become one"
IDEA = (
    "CoMe **concatenates** the most sensitive units of each layer: the new layer has the shape of one, its units stay "
    "whole."
)


def draw(of: Material) -> None:
    """Both layers and the new one, unit by unit, for a ratio by hand."""
    pairs = material.pairs(of.measured)
    widget_state.keep_among("join-pair", [f"{a}-{b}" for a, b in pairs], f"{pairs[0][0]}-{pairs[0][1]}")
    first, last = (int(end) for end in session.value("join-pair").split("-"))
    automatic = come.draft(of.measured, windows=[(first, last)])[0]
    widget_state.keep_among("join-share", list(range(101)), round(100 * automatic.ratio[0]))
    widget_state.keep_among("join-order", ["index", "rank"], "index")
    frame.todo("Drag the share: where it is small, only the most sensitive units live on.")
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.segmented_control(
            "Pair",
            [f"{a}-{b}" for a, b in pairs],
            key="join-pair",
            required=True,
            format_func=lambda pair: pair.replace("-", " and "),
            on_change=_own_share,
            args=(of,),
        )
        st.slider(f"Share of layer {first} (%)", 0, 100, key="join-share", width=220)
        st.segmented_control(
            "Order",
            ["index", "rank"],
            key="join-order",
            required=True,
            format_func={"rank": "Most sensitive first", "index": "As they lie"}.__getitem__,
        )
    share = session.value("join-share") / 100
    by_hand = session.value("join-share") != round(100 * automatic.ratio[0])
    merge = come.draft(of.measured, windows=[(first, last)], ratios=[(share, 1 - share)])[0] if by_hand else automatic
    pictured = stripes(of, merge, ranked=session.value("join-order") == "rank")
    frame.chart(
        lesson.joined(*pictured, of.layers),
        key="lesson-joined",
        alt=f"The units of layers {first} and {last}, and those that the merged layer keeps",
        tallest=400,
    )
    _key(first, last, of.layers)
    with st.container(key="join-numbers"):
        widgets.facts_grid(
            {
                "KV groups kept": " + ".join(map(str, merge.kv_groups)),
                "FFN channels kept": " + ".join(f"{count:,}" for count in merge.channels),
                "Of the pair's sensitivity": f"{kept_sensitivity(of, merge):.0%}",
                "Of its FFN channels": f"{sum(merge.channels) / sum(len(row) for row in _channels(of, merge)):.0%}",
            }
        )
    with st.container(key="join-own"):
        if by_hand:
            st.button(
                f"Back to CoMe's own ratio: {automatic.ratio[0]:.0%}",
                key="join-automatic",
                icon=":material/restart_alt:",
                on_click=session.put,
                args=("join-share", round(100 * automatic.ratio[0])),
            )
        else:
            st.caption("CoMe's own ratio: in proportion to both layers' block influence.")


def _own_share(of: Material) -> None:
    """Another pair starts from CoMe's own ratio."""
    session.put("join-share", own_share(of, session.value("join-pair")))


def own_share(of: Material, pair: str) -> int:
    """The share that CoMe itself gives the first layer of a pair such as "25-26", in percent."""
    first, last = (int(end) for end in pair.split("-"))
    return round(100 * come.draft(of.measured, windows=[(first, last)])[0].ratio[0])


def stripes(of: Material, merge: DraftWindow, *, ranked: bool) -> list[tuple[Stripes, Stripes]]:
    """The two layers and the new one, each as (KV groups, FFN channels), with what is kept of them."""
    groups = of.measured.kv_group_sensitivity.numpy()
    sources = list(range(merge.first, merge.last + 1))
    found: list[tuple[Stripes, Stripes]] = []
    for place, layer in enumerate(sources):
        found.append(
            (
                _source(layer, groups[layer], merge.kept_kv[place], ranked),
                _source(layer, _channels(of, merge)[place], merge.kept_channels[place], ranked),
            )
        )
    kept = ((groups, merge.kept_kv), (of.measured.mlp_sensitivity.numpy(), merge.kept_channels))
    both = [_new(sources, values, indices) for values, indices in kept]
    return [*found, (both[0], both[1])]


def kept_sensitivity(of: Material, merge: DraftWindow) -> float:
    """The share of the pair's summed FFN sensitivity that the new layer keeps."""
    rows = _channels(of, merge)
    kept = sum(float(row[indices].sum()) for row, indices in zip(rows, merge.kept_channels, strict=True))
    return kept / float(rows.sum())


def _channels(of: Material, merge: DraftWindow) -> np.ndarray:
    return of.measured.mlp_sensitivity[merge.first : merge.last + 1].numpy()


def _source(layer: int, values: np.ndarray, kept: list[int], ranked: bool) -> Stripes:
    order = np.argsort(-values, kind="stable") if ranked else np.arange(len(values))
    source = np.where(np.isin(order, kept), layer, -1)
    return Stripes(f"Layer {layer}", source, order, values[order])


def _new(sources: list[int], values: np.ndarray, kept: list[list[int]]) -> Stripes:
    source = np.concatenate([np.full(len(indices), layer) for layer, indices in zip(sources, kept, strict=True)])
    index = np.concatenate([np.asarray(indices, dtype=int) for indices in kept])
    return Stripes("New layer", source, index, values[source, index])


def _key(first: int, last: int, layers: int) -> None:
    def dot(color: str, dotted: bool = False) -> str:
        dots = f"radial-gradient({theme.ink_on(color)}90 1px,transparent 1.4px) 0 0/4px 4px," if dotted else ""
        look = f"display:inline-block;width:.9em;height:.9em;border-radius:2px;background:{dots}{color}"
        return f"<i style='{look}'></i>"

    st.html(
        f"<p style='margin:0;font-size:.875rem'>{dot(theme.layer_color(first, layers))} kept of layer {first} &nbsp; "
        f"{dot(theme.layer_color(last, layers), dotted=True)} kept of layer {last} &nbsp; {dot(theme.QUIET)} dropped. "
        "Key-value (KV) groups above, feed-forward (FFN) channels below.</p>"
    )
