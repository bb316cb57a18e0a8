"""Showing the page to a room: without the sidebar, in larger type, the figure first, with keys for next and previous.

``?present=1`` in the address says so, on every page. ``?embed=true``, Streamlit's own word for a page in a frame, shows
it likewise as a slide: without keys, and with nothing below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st
from streamlit.navigation.page import StreamlitPage

from app.state import session

PARAM = "present"
ON = "_presenting"
KEYS = ("PageUp", "PageDown")  # which presenters' clickers send, too
LARGER = 1.35  # type, and with it the margins that hold it
LEAST = 16  # pixels of type, ticks included
WIDTH_OF_A_LETTER = 0.5  # of the size of type, on average
LOW, TALLER = 420, 1.25  # pixels of a chart below which it grows, and how far
TALLEST = 600  # of a chart: a screen of 1280 x 800, less its title and the bar

_FRAMED = """<style>
.stSidebar, [data-testid="stExpandSidebarButton"], .stHeader { display: none !important; }
.stApp .stAppViewContainer { padding-left: 0 !important; }
.stApp [data-testid="stMainBlockContainer"] { padding-top: 1rem; }
</style>"""
_PRESENTED = """<style>
html { font-size: clamp(19px, 1.4vw, 30px) !important; }
.stMain h1 { padding: 0 0 .3rem !important; }
.stMain h2 { padding-top: 0 !important; }
</style>"""
_ABOVE_A_BAR = """<style>
.stApp .stMain { height: calc(100dvh - 2.9rem) !important; }  /* nothing lies under the bar */
.stApp [data-testid="stMainBlockContainer"] { padding-bottom: 1rem; }
:has(> .st-key-presenter) { position: fixed !important; right: 1rem; bottom: .3rem; z-index: 100; }
.st-key-presenter:not(:hover, :focus-within) > * { opacity: .45; }
</style>"""
_FIGURE_FIRST = """<style>
/* The first figure stands under the heading, and what is said about it below. */
[data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] > * { order: 3; }
[data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] >
  :is(:has(h1), :has(> [class*="st-key-present-first"]), [class*="st-key-present-first"]) { order: 1; }
[data-testid="stMainBlockContainer"] > [data-testid="stVerticalBlock"] >
  :has(.js-plotly-plot):not(:has(.js-plotly-plot) ~ *) { order: 2; }
@media (max-width: 1100px) { [data-testid="stColumn"]:has(.st-key-plan-choices) { order: 2; } }
</style>"""


def first(name: str) -> str:
    """The key of a container, of that name, that stands right under the heading before a room."""
    return f"present-first-{name}"


def is_on() -> bool:
    """Whether this visit presents: a frame in a slide always does."""
    return bool(session.value(ON)) or st.context.is_embedded


def follow_link() -> None:
    """Begin to present where the link says so; keep saying it in the address while it lasts."""
    if st.query_params.get(PARAM) == "1":
        session.put(ON, True)
    elif session.value(ON):
        st.query_params[PARAM] = "1"


def frame(page: StreamlitPage, pages: Sequence[StreamlitPage]) -> bool:
    """What there is around a page: a way to begin, or what presenting has in its place; whether the strip is drawn."""
    lesson = page.url_path == "learn"  # its steps have the keys, and an order of their own
    presented = _FRAMED + _PRESENTED + ("" if lesson else _FIGURE_FIRST)
    if st.context.is_embedded:
        st.html(presented + (_ABOVE_A_BAR if lesson else ""))
        return False
    if not is_on():
        with st.sidebar:
            st.button(
                "Present",
                key="present",
                icon=":material/slideshow:",
                type="tertiary",
                on_click=session.put,
                args=(ON, True),
                help="For a room: larger type, no sidebar. Page Down and Page Up turn pages, Escape leaves.",
            )
        return True
    st.html(presented + _ABOVE_A_BAR)
    at = pages.index(page) if page in pages else 0
    keys = (None, None) if lesson else KEYS
    with st.container(key="presenter", horizontal=True, gap="small", width="content"):
        back = at > 0 and _turn("Previous page", "arrow_back", keys[0])
        on = at < len(pages) - 1 and _turn("Next page", "arrow_forward", keys[1])
        st.button(
            "Leave",
            key="leave-presenting",
            icon=":material/close:",
            type="tertiary",
            shortcut="Escape",
            on_click=_leave,
        )
    if back or on:
        st.switch_page(pages[at + (1 if on else -1)])
    return False


def _turn(label: str, icon: str, key: str | None) -> bool:
    return st.button(label, key=f"present-{icon}", icon=f":material/{icon}:", type="tertiary", shortcut=key)


def _leave() -> None:
    session.put(ON, False)
    if PARAM in st.query_params:
        del st.query_params[PARAM]


def enlarged(drawn: go.Figure) -> go.Figure:
    """The figure with larger type, and margins for it; a low one taller, none taller than a screen.

    One that is made less tall has less room: its type grows less.
    """
    height = drawn.layout.height or 0
    times = LARGER if height <= TALLEST else max(1.0, LARGER * TALLEST / height)
    drawn.layout.update(_larger(drawn.layout.to_plotly_json(), times, LEAST))
    for trace in drawn.data:
        trace.update(_larger(trace.to_plotly_json(), times))  # words within marks have no more room than these
    if height:
        drawn.update_layout(height=TALLER * height if height < LOW else min(height, TALLEST))
    for axis in (*drawn.select_xaxes(), *drawn.select_yaxes()):
        axis.tickfont.size = max(LEAST, axis.tickfont.size or 0)
    for bar in (trace.colorbar for trace in drawn.data if "colorbar" in trace and trace.showscale is not False):
        bar.tickfont.size = max(LEAST, bar.tickfont.size or 0)
    margin = drawn.layout.margin
    drawn.update_layout(
        font_size=max(LEAST, 12 * times), margin={side: times * (margin[side] or 0) for side in ("l", "r", "b")}
    )
    _wrap_upright(drawn)
    return drawn


def _wrap_upright(drawn: go.Figure) -> None:
    """Break what is written along a vertical axis, where it is longer than that, before what is in brackets."""
    layout = drawn.layout
    room = (layout.height or 0) - (layout.margin.t or 0) - (layout.margin.b or 0)
    for axis in drawn.select_yaxes():
        words, size = axis.title.text or "", axis.title.font.size or LEAST
        if " (" in words and WIDTH_OF_A_LETTER * size * len(words) > room:
            axis.title.text = words.replace(" (", "<br>(", 1)
            layout.margin.l += 1.3 * size


def _larger(given: dict[str, Any], times: float, least: float = 0) -> dict[str, Any]:
    """Of a part of a figure, the sizes of type that it names, larger, and no smaller than the least."""
    found: dict[str, Any] = {}
    for name, value in given.items():
        if name == "annotations":
            found[name] = [_larger(each, times, least) for each in value]
        elif isinstance(value, dict) and name != "template":
            size = value.get("size")
            is_type = name.endswith("font") and isinstance(size, int | float)
            if inner := {"size": max(least, times * size)} if is_type else _larger(value, times, least):
                found[name] = inner
    return found
