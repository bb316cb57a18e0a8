"""What excites a channel: the page's question to `come.measurement.top_contexts.top_contexts`, and its answer.

Nothing is computed here: reading a text takes seconds and a model, which belong to the resident process.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from app.components import plain_text
from app.state import session
from come.errors import ComeError
from come.measurement.top_contexts import Context
from come.request import RunConfig
from come.serving.resident import client
from come.serving.resident.connection import LiveFault
from come.serving.whatif.question import Subject

_ANSWER = "_contexts"  # the last answer, so that it stays while its channel is shown


def section(config: RunConfig, layer: int, channel: int) -> None:
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
                session.put(_ANSWER, (key, asked(config, layer, channel)))
        except (ComeError, LiveFault) as error:
            st.warning(plain_text.sentence(str(error)))
    answered, found = session.value(_ANSWER, ("", ()))
    if answered == key:
        st.html(table(found))


def asked(config: RunConfig, layer: int, channel: int) -> list[Context]:
    """The contexts of an FFN channel, loudest first, of the model and text that a run was calibrated on.

    Raises:
        ComeError: the model or the text cannot be had any more.
        LiveFault: the resident process met a fault of ours.
    """
    subject = Subject(
        model=config.model,
        device=config.device,
        dtype=config.dtype,
        text=config.text,
        seed=config.seed,
        measured_tokens=config.n_tokens,
        measured_seq_len=config.seq_len,
    )
    return [Context(**found) for found in client.contexts(subject, layer, channel, key=session.visitor())]


def table(found: Sequence[Context]) -> str:
    """Contexts as a table, the token marked; text that is shown as it is, whatever it holds."""
    rows = "".join(
        f"<tr><td>{context.activation:.3g}</td><td>{_shown(context.text_before)}"
        f"<mark>{_shown(context.token)}</mark>{_shown(context.text_after)}</td></tr>"
        for context in found
    )
    if not found:
        return "<p>No token of the text excites it.</p>"
    head = "<tr><th scope='col'>|activation|</th><th scope='col'>Token in its context</th></tr>"
    return f"<table class='come-contexts'><thead>{head}</thead><tbody>{rows}</tbody></table>"


def _shown(text: str) -> str:
    return escape(text).replace("\n", "<span title='line break'>↵</span> ")
