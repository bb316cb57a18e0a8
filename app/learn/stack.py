"""Step 1: a layer is a stack of channels."""

from __future__ import annotations

import streamlit as st

from app.figures import lesson
from app.learn import frame
from app.learn.material import Material
from app.state import session, widget_state

TITLE = "A layer is a stack of channels"
IDEA = (
    "Attention is a stack of **key-value (KV) groups**, the feed-forward network (FFN) one of **channels**: all "
    "independent units."
)


def draw(material: Material) -> None:
    """The units of one layer as stripes, brighter the more sensitive."""
    measured = material.measured
    widget_state.keep_among("stack-layer", list(range(material.layers)), material.activations.layer)
    widget_state.keep_among("stack-order", ["rank", "index"], "index")
    frame.todo("Move through the layers, then put the most sensitive first. How much does the top tenth carry?")
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
    frame.chart(
        lesson.stack(groups, channels, layer=layer, heads=heads, ranked=session.value("stack-order") == "rank"),
        key="lesson-stack",
        alt=f"The KV groups and FFN channels of layer {layer}, brighter the more sensitive",
    )
    ordered = sorted(channels.tolist(), reverse=True)
    tenth = len(ordered) // 10
    st.caption(
        f"A stripe is a unit, the brighter the more sensitive. The top tenth ({tenth:,} channels) holds "
        f"**{sum(ordered[:tenth]) / sum(ordered):.0%}** of the layer's sensitivity."
    )
