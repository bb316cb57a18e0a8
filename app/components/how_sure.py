"""What a chart's numbers rest on, behind one small button."""

from __future__ import annotations

import streamlit as st

WIDE = 420  # pixels of the words: they open beside their button, not over the page


def how_sure(words: str, key: str) -> None:
    """A button that opens what was measured, on how much, and what the bars mean (markdown)."""
    with st.popover("How sure?", icon=":material/help:", type="tertiary", key=key):
        st.markdown(words, width=WIDE)
