"""What excites a channel: the page's question to `come.measure.contexts.top_contexts`, and its answer.

Nothing is computed here: reading a text takes seconds and a model, which belong to another process. `asker` is where
that process is connected; until it is, the page does not offer the question.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import streamlit as st

from app import session
from come.errors import ComeError
from come.measure.contexts import Context
from come.runs import RunConfig

Asker = Callable[[RunConfig, int, int], Sequence[Context]]

asker: Asker | None = None
"""Given the run whose model and text are meant, a layer and an FFN channel: the contexts, loudest first."""

_ANSWER = "_contexts"  # the last answer, so that it stays while its channel is shown


def section(config: RunConfig, layer: int, channel: int) -> None:
    """A button that asks, and the answer once there is one."""
    if asker is None:
        return
    key = f"{config.model} {config.text} {layer} {channel}"
    if st.button(
        "Which tokens excite it most?",
        key=f"contexts-{layer}-{channel}",
        icon=":material/format_quote:",
        help=f"Reads {config.n_tokens:,} tokens of {config.text.rsplit('/', 1)[-1]} up to layer {layer}.",
    ):
        try:
            with st.spinner("Reading the text…"):
                session.put(_ANSWER, (key, asker(config, layer, channel)))
        except ComeError as error:
            st.warning(str(error))
    answered, found = session.value(_ANSWER, ("", ()))
    if answered == key:
        st.html(table(found))


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
