"""What a browser sends, cut to what a page reads before anything is made of it: its address, and what widgets hold.

A browser keeps to what a widget says of itself (how many characters it takes); another client need not.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import streamlit as st
from streamlit.errors import StreamlitAPIException

LONGEST_LINK = 8_000  # characters of all parameters, names included
LONGEST_TEXT = 20_000  # characters of a widget's
MOST_CHOSEN = 500  # of a widget of several choices


def cut_link() -> bool:
    """Leave out of the address what is beyond the longest that is read; whether there was such."""
    kept: dict[str, str] = {}
    left = LONGEST_LINK
    too_long = False
    for name in list(st.query_params):
        held = st.query_params.get_all(name)
        text = held[-1] if held else ""  # the one that counts
        left -= len(name) + sum(map(len, held)) + len(held)
        if left < 0:
            too_long = True
            break
        kept[name] = text
    if too_long:
        st.query_params.from_dict(kept)
    return too_long


def cut_widgets() -> None:
    """Cut texts of widgets, and their choices, to what is read; before any of them is drawn."""
    for key in list(st.session_state):
        held = st.session_state.get(key)
        cut = bounded(held)
        if cut is not held:
            with suppress(StreamlitAPIException):  # a button's value cannot be set, and is no text either
                st.session_state[key] = cut


def bounded(value: Any) -> Any:
    """The value of a widget as it is read: itself, or a shorter text or list where it is too long."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else value[:LONGEST_TEXT]
    if isinstance(value, list) and value and isinstance(value[0], str):
        fits = len(value) <= MOST_CHOSEN and all(len(str(each)) <= LONGEST_TEXT for each in value)
        return value if fits else [str(each)[:LONGEST_TEXT] for each in value[:MOST_CHOSEN]]
    return value
