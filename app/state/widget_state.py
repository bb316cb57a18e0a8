"""What the widgets of a page stand at: settled before they are drawn, in the URL, and kept when the page is left."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.state import unread
from app.state.link import read_windows


def keep_among(key: str, options: list[Any], default: Any, *, passing: bool = False) -> Any:
    """Before a widget of that key is drawn: settle its value, and mirror it to the URL.

    The widget's own value counts first, then the URL's (a link was opened), then the one that it had when
    its page was left, then the default; a value that is none of the options (another model's) is passed over.

    Args:
        key: of the widget, and its name in the URL.
        options: what it offers.
        default: what it stands at; the URL leaves it out,
        passing: unless it may be another one tomorrow, as the newest run is.

    Returns:
        The value that the widget will show.
    """
    if not passing and unread.is_new(key, _kept_views()) and _linked(key, options) is None:
        unread.tell(key, st.query_params[key])
    return _settle(key, held_among(key, options, default), None if passing else default)


def held_among(key: str, options: list[Any], default: Any) -> Any:
    """What `keep_among` would settle on; nothing is changed."""
    candidates = (
        st.session_state.get(key),
        _linked(key, options),
        _kept_views().get(key),
    )
    return next((held for held in candidates if held in options), default)


def _linked(key: str, options: list[Any]) -> Any:
    """The option that the URL names; None where it names none of them."""
    return next((option for option in options if str(option) == st.query_params.get(key)), None)


def keep_range(key: str, low: int, high: int) -> tuple[int, int]:
    """The same for a slider with two ends; the default is the whole range."""
    try:
        linked = read_windows(st.query_params.get(key, ""))
    except ValueError:
        linked = []
    candidates = (st.session_state.get(key), *linked, _kept_views().get(key))
    fitting = (tuple(held) for held in candidates if held and low <= held[0] < held[1] <= high)
    if unread.is_new(key, _kept_views()) and not any(low <= first < last <= high for first, last in linked):
        unread.tell(key, st.query_params[key])
    settled: tuple[int, int] = _settle(key, next(fitting, (low, high)), (low, high))
    return settled


def keep_several(key: str, options: list[str], default: list[str], most: int) -> list[str]:
    """The same for a widget of several choices, at most so many, whose default passes; the URL has commas between."""
    link = st.query_params.get(key)
    named = (link or "").split(",")
    linked = [option for option in named if option in options]
    if link and len(linked) < len(named) and unread.is_new(key, _kept_views()):
        unread.tell(key, ",".join(part for part in named if part not in options))
    candidates = (st.session_state.get(key), linked if linked or link == "" else None, _kept_views().get(key))
    held = next((held for held in candidates if held is not None), None)
    fitting = [option for option in held or [] if option in options][:most]
    # None chosen is a choice; choices that are all gone (another model's) are none.
    settled: list[str] = _settle(key, fitting if fitting or held == [] else default, None)
    return settled


def keep_text(key: str, default: str, longest: int, in_link: int) -> str:
    """The same for a field of text, cut to so many characters; one that is longer than `in_link` is not in the URL."""
    candidates = (st.session_state.get(key), st.query_params.get(key), _kept_views().get(key))
    text: str = next((held for held in candidates if held is not None), default)[:longest]
    if len(text) <= in_link:
        _settle(key, text, default)
        return text
    st.session_state[key] = _kept_views()[key] = text
    if key in st.query_params:
        del st.query_params[key]
    return text


def keep_answer(key: str, options: list[Any]) -> None:
    """The same as `keep_among` for a widget that may stand at none, and has no place in the URL."""
    held = next((held for held in (st.session_state.get(key), _kept_views().get(key)) if held in options), None)
    st.session_state[key] = _kept_views()[key] = held


def forget(key: str) -> None:
    """Let go of what was chosen, wherever it is kept: the next ``keep_...`` of that key takes its default."""
    st.session_state[key] = None
    _kept_views().pop(key, None)
    if key in st.query_params:
        del st.query_params[key]


def _kept_views() -> dict[str, Any]:
    """Values of widgets whose pages were left: Streamlit forgets them with the page."""
    views: dict[str, Any] = st.session_state.setdefault("_views", {})
    return views


def _settle(key: str, settled: Any, default: Any) -> Any:
    st.session_state[key] = settled
    _kept_views()[key] = settled
    shown = "-".join(map(str, settled)) if isinstance(settled, tuple) else str(settled)
    shown = ",".join(settled) if isinstance(settled, list) else shown
    if settled != default:
        if st.query_params.get(key) != shown:
            st.query_params[key] = shown
    elif key in st.query_params:
        del st.query_params[key]
    return settled
