"""What a link holds that cannot be read and was left out: one sentence in the place that a page's head keeps for it.

The plan's parts are known when the page begins; a page's own view reads its parts while it is drawn.
"""

from __future__ import annotations

from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app import formats

_PLACE, _PARTS = "_unread-place", "_unread"
MOST, LONGEST = 5, 60  # parts that are named, and characters of each


def begin(parts: list[str]) -> None:
    """Keep the place here, and tell of these parts, as "name=value"; what an earlier run of the page told is gone."""
    st.session_state[_PLACE] = st.empty()
    st.session_state[_PARTS] = list(parts)
    _say()


def tell(name: str, text: str) -> None:
    """Tell of one more."""
    parts = st.session_state.setdefault(_PARTS, [])
    part = f"{name}={text}"
    if part not in parts:
        parts.append(part)
        _say()


def refuse(*names: str) -> None:
    """Tell of parts that the page does not read at all, though they look as if it did; and take them away."""
    for name in names:
        if name in st.query_params:
            tell(name, st.query_params[name])
            del st.query_params[name]


def is_new(key: str, kept: dict[str, Any]) -> bool:
    """Whether nothing is known yet of that widget, so that what the URL says of it is a link's."""
    return key in st.query_params and key not in st.session_state and key not in kept


def _say() -> None:
    place: DeltaGenerator | None = st.session_state.get(_PLACE)
    if parts := st.session_state[_PARTS]:
        named = ", ".join(part if len(part) <= LONGEST else f"{part[:LONGEST]}…" for part in parts[:MOST])
        sentence = f"The link holds {formats.literal(named)}, which cannot be read; it was left out."
        if place is not None:
            place.warning(sentence)
