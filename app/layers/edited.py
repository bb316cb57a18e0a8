"""What the last window that was added or taken out did to the plan, and the way back: told where it was done."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.components import widgets
from app.state import session, visit


def draw(place: str, otherwise: str = "", offered: Callable[[], None] | None = None) -> None:
    """One line, and Undo while the plan is as that left it; else the sentence given, and a button that is offered."""
    told = visit.edited()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"edited-{place}"):
        st.html(f"<style>.st-key-edited-{place} {{ min-height: 2.5rem; }}</style>", width="content")
        st.caption(told or otherwise, width="content")
        if told:
            widgets.next_step("plan", "See the plan")
            st.button("Undo", key=f"undo-{place}", icon=":material/undo:", type="tertiary", on_click=session.undo)
        elif offered is not None:
            offered()
