"""Step 1: a layer is a stack of channels."""

from __future__ import annotations

import streamlit as st

from app.components import widgets
from app.figures import lesson
from app.learn import frame
from app.learn.material import Material
from app.state import session, widget_state

TITLE = "A layer is a stack of channels"
IDEA = (
    "A layer has two parts, attention and feed-forward (FFN), and each is a stack of independent units: "
    "**KV groups** (a key and value head with the query heads that share it) and **FFN channels** "
    "(a row of the maps in, a column of the map out)."
)


def draw(material: Material) -> None:
    """The units of one layer as stripes, brighter the more sensitive."""
    measured = material.measured
    widget_state.keep_among("stack-layer", list(range(material.layers)), material.activations.layer)
    widget_state.keep_among("stack-order", ["rank", "index"], "index")
    frame.todo(
        "Move through the layers. Then put the most sensitive first, and read below how much the loudest tenth carries."
    )
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        st.select_slider("Layer", list(range(material.layers)), key="stack-layer", width=420)
        st.segmented_control(
            "Order",
            ["index", "rank"],
            key="stack-order",
            required=True,
            format_func={"rank": "Most sensitive first", "index": "As they lie"}.__getitem__,
        )
    layer = session.value("stack-layer")
    groups = measured.kv_group_sensitivity[layer].numpy()
    heads = measured.head_sensitivity.shape[1] // len(groups)
    channels = measured.mlp_sensitivity[layer].numpy()
    widgets.chart(
        lesson.stack(groups, channels, layer=layer, heads=heads, ranked=session.value("stack-order") == "rank"),
        key="lesson-stack",
        alt=f"The KV groups and FFN channels of layer {layer}, brighter the more sensitive",
    )
    loudest = sorted(channels.tolist(), reverse=True)
    tenth = len(loudest) // 10
    st.caption(
        f"Each stripe is one unit; bright: high sensitivity S within this layer. The loudest tenth "
        f"({tenth:,} channels) holds {sum(loudest[:tenth]) / sum(loudest):.0%} of the layer's summed S."
    )
