"""Which channels and heads matter: the whole model at a glance, then one layer, then one bin."""

from __future__ import annotations

import numpy as np
import streamlit as st

from app import formats
from app.channels import card, layer, whole_map
from app.components import poll, widgets
from app.components.how_sure import how_sure
from app.figures.channel_findings import most_concentrated
from app.state import session, visit, widget_state
from come.measurement.measurement import Measurement
from come.runs import Run
from come.text import short_name


def page() -> None:
    st.title("Channels")
    measured, facts, is_example, run = visit.analysis()
    if measured is None or run is None:
        widgets.no_analysis()
        return
    widget_state.keep_among("part", list(whole_map.PARTS), "ffn")
    widget_state.keep_among("view", list(whole_map.VIEWS), "sorted")
    part = session.value("part")
    values = _values(measured, part)
    plan = visit.units_kept(measured, facts)
    touched = [] if plan is None else sorted(plan.layers)
    widget_state.keep_among("layer", list(range(facts.layers)), touched[0] if touched else most_concentrated(values))
    widget_state.keep_among("channel", list(range(values.shape[1])), None)
    widget_state.keep_among("scale", ["log", "linear"], "log")
    widget_state.keep_range("zoom", 0, values.shape[1] - 1)
    whole_map.controls(facts, part, values.shape[1])
    whole_map.draw(values, facts, part, plan)
    opened, chosen = session.value("layer"), session.value("channel")
    channel = int(values[opened].argmax()) if chosen is None else chosen
    follow = card.draw(run, facts, values[opened], part, opened, channel, plan)
    _sure(run, measured, is_example)
    kept = None if plan is None else plan.layers.get(opened)
    layer.draw(facts, values, part, kept)
    if part == "attention":
        layer.heads(measured, facts, kept)
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


def _values(measured: Measurement, part: str) -> np.ndarray:
    tensor = measured.mlp_sensitivity if part == "ffn" else measured.attention_sensitivity
    return tensor.numpy()


page()
