"""The inspect page's search: one channel or KV group of the original, what became of it, and what excites it.

Nothing is computed here: reading a text takes seconds and a model, which belong to the resident process.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from app import formats
from app.figures.inspect import NAMES
from app.inspect import inspected_run
from app.inspect.inspected_run import Inspected
from app.state import session
from come.errors import ComeError
from come.measurement.top_contexts import Context
from come.plan.plan import Plan
from come.plan.provenance import Part
from come.plan.trace import Trace, asked, trace
from come.request import RunConfig
from come.serving.resident import client
from come.serving.resident.connection import LiveFault
from come.serving.whatif.question import Subject

_WORD: dict[Part, str] = {"ffn": "channel", "attention": "group"}


def written(part: Part, layer: int, unit: int) -> str:
    """A unit as one types it: "layer 12 channel 345"."""
    return f"layer {layer} {_WORD[part]} {unit}"


def section(inspected: Inspected, part: Part) -> None:
    """The field, and under it where the unit went and what excites it."""
    if not inspected.counted:
        return
    one = NAMES[part][0]
    st.header(f"Follow one {one}")
    text = st.text_input(
        f"Layer and {_WORD[part]} of the original",
        key="find",
        placeholder=written(part, inspected.ffn.layers // 2, min(345, inspected.origins(part).units - 1)),
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
    origins = inspected.origins(part)
    if layer >= origins.layers or unit >= origins.units:
        st.warning(
            f"The original has layers 0 to {origins.layers - 1}, each with {NAMES[part][1]} 0 to {origins.units - 1:,}."
        )
        return
    found = trace(inspected.plan, part, layer, unit)
    st.markdown(sentence(found, inspected.plan, part, layer, unit))
    ranked = _ranked(inspected, part, layer, unit)
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
        _contexts(inspected.config, layer, unit)


def sentence(found: Trace, plan: Plan, part: Part, layer: int, unit: int) -> str:
    """What became of a unit, in a sentence."""
    name = f"**{NAMES[part][0]} {unit:,} of layer {layer}**"
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
    return f"{name} is dropped at {step}{earlier}. {plan.in_words()[found.step]}"


def _ranked(inspected: Inspected, part: Part, layer: int, unit: int) -> str:
    values = inspected_run.sensitivity(inspected_run.measurement(inspected.config), inspected.origins(part))
    if values is None:
        return ""
    rank = int((values[layer] > values[layer, unit]).sum()) + 1
    words = f"Sensitivity S = {values[layer, unit]:.3g}, rank {rank:,} of {values.shape[1]:,} in its layer"
    origins = inspected.origins(part)
    return f"{words}." if origins.averaged[layer].any() else f"{words}, which keeps {int(origins.kept(layer).sum()):,}."


_ANSWER = "_contexts"  # the last answer, so that it stays while its channel is shown


def _contexts(config: RunConfig, layer: int, channel: int) -> None:
    """A button that asks, and the answer once there is one."""
    key = f"{config.model} {config.text} {layer} {channel}"
    if st.button(
        "Which tokens excite it most?",
        key=f"contexts-{layer}-{channel}",
        icon=":material/format_quote:",
        help=f"Reads {config.n_tokens:,} tokens of {config.text.rsplit('/', 1)[-1]} up to layer {layer}.",
    ):
        try:
            with st.spinner("Reading the text…"):
                session.put(_ANSWER, (key, top_contexts(config, layer, channel)))
        except (ComeError, LiveFault) as error:
            st.warning(formats.sentence(str(error)))
    answered, found = session.value(_ANSWER, ("", ()))
    if answered == key:
        st.html(table(found))


def top_contexts(config: RunConfig, layer: int, channel: int) -> list[Context]:
    """The contexts of an FFN channel, the highest activation first, of the model and text that a run was calibrated on.

    Raises:
        ComeError: the model or the text cannot be had any more.
        LiveFault: the resident process met a fault of ours.
    """
    return [Context(**found) for found in client.contexts(subject_of(config), layer, channel, key=session.visitor())]


def subject_of(config: RunConfig) -> Subject:
    """The model and text of a run, as the resident process is asked about them."""
    return Subject(
        model=config.model,
        device=config.device,
        dtype=config.dtype,
        text=config.text,
        seed=config.seed,
        bos=config.bos,
        measured_tokens=config.n_tokens,
        measured_seq_len=config.seq_len,
    )


def table(found: Sequence[Context]) -> str:
    """Contexts as a table, the token marked; text that is shown as it is, whatever it holds."""
    rows = "".join(
        f"<tr><td>{formats.signed(context.activation)}</td><td>{_shown(context.text_before)}"
        f"<mark>{_shown(context.token)}</mark>{_shown(context.text_after)}</td></tr>"
        for context in found
    )
    if not found:
        return "<p>No token of the text excites it.</p>"
    head = "<tr><th scope='col'>Activation</th><th scope='col'>Token in its context</th></tr>"
    return f"<table class='come-contexts'><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _shown(text: str) -> str:
    return escape(text).replace("\n", "<span title='line break'>↵</span> ")
