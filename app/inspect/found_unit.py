"""The inspect page's search: one channel or KV group of the original, and what became of it."""

from __future__ import annotations

import streamlit as st

from app.components import contexts
from app.figures.inspect import NAMES
from app.inspect import opened_run
from app.inspect.opened_run import Subject
from app.state import session
from come.plan.steps import Part
from come.plan.trace import Trace, asked, trace

_WORD: dict[Part, str] = {"ffn": "channel", "attention": "group"}


def written(part: Part, layer: int, unit: int) -> str:
    """A unit as one types it: "layer 12 channel 345"."""
    return f"layer {layer} {_WORD[part]} {unit}"


def section(subject: Subject, part: Part) -> None:
    """The field, and under it where the unit went and what excites it."""
    if not subject.counted:
        return
    one = NAMES[part][0]
    st.header(f"Follow one {one}")
    text = st.text_input(
        f"Layer and {_WORD[part]} of the original",
        key="find",
        placeholder=written(part, subject.ffn.layers // 2, min(345, subject.origins(part).units - 1)),
        bind="query-params",
        max_chars=60,
        width=460,
    )
    if not text:
        return
    wanted = asked(text)
    if wanted is None:
        st.warning(f'Write two numbers, such as "{written(part, 12, 1)}".')
        return
    layer, unit = wanted
    origins = subject.origins(part)
    if layer >= origins.layers or unit >= origins.units:
        st.warning(
            f"The original has layers 0 to {origins.layers - 1}, each with {NAMES[part][1]} 0 to {origins.units - 1:,}."
        )
        return
    found = trace(subject.plan, part, layer, unit)
    st.markdown(sentence(found, subject, part, layer, unit))
    ranked = _ranked(subject, part, layer, unit)
    if ranked:
        st.caption(ranked)
    if found.new_layer is not None and found.new_layer != session.value("new-layer"):
        st.button(
            f"Open new layer {found.new_layer}",
            key="open-found",
            icon=":material/open_in_new:",
            on_click=session.put,
            args=("new-layer", found.new_layer),
        )
    if part == "ffn":
        contexts.section(subject.config, layer, unit)


def sentence(found: Trace, subject: Subject, part: Part, layer: int, unit: int) -> str:
    """What became of a unit, in a sentence."""
    name = f"**{NAMES[part][0]} {unit:,} of layer {layer}**"
    steps = subject.plan.steps
    step = "" if found.step is None else f"step {found.step + 1}"
    match found.fate:
        case "kept" if found.moved:
            count = len(found.moved)
            merges = f"{step} took it there" if count == 1 else f"{count} merges kept it, the last at {step}"
            return f"{name} is kept: place {found.position:,} of new layer {found.new_layer}; {merges}."
        case "kept":
            return f"{name} is untouched: place {found.position:,} of new layer {found.new_layer}."
        case "averaged":
            return f"{name} is averaged at {step}, into place {found.position:,} of new layer {found.new_layer}."
        case "silenced":
            return f"{name} is silenced at {step}: its place in new layer {found.new_layer} is zero."
        case "removed":
            return f"{name} is gone: {step} removed its whole layer."
    earlier = f", after {len(found.moved)} that kept it" if found.moved else ""
    assert found.step is not None
    return f"{name} is dropped at {step}{earlier}. {steps[found.step].describe()}"


def _ranked(subject: Subject, part: Part, layer: int, unit: int) -> str:
    values = opened_run.sensitivity(opened_run.measurement(subject.config), subject.origins(part))
    if values is None:
        return ""
    rank = int((values[layer] > values[layer, unit]).sum()) + 1
    words = f"Sensitivity S = {values[layer, unit]:.3g}, rank {rank:,} of {values.shape[1]:,} in its layer"
    origins = subject.origins(part)
    return f"{words}." if origins.averaged[layer].any() else f"{words}, which keeps {int(origins.kept(layer).sum()):,}."
