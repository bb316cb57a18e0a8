"""Pages of one address are drawn a few at a time where visitors are strangers: many tabs of one do not slow all others.

Scripts of a server share one interpreter, so that more of them at once would draw none of them sooner.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from app.server.held_back import told_by_proxy
from come.serving import limits

AT_ONCE = 2  # of one address
PATIENCE = 8.0  # seconds, after which a page is drawn all the same

_changed = threading.Condition()
_drawn: Counter[str] = Counter()  # how many pages are being drawn, by address
_held = threading.local()  # the address whose place this script holds


@contextmanager
def turn() -> Iterator[None]:
    """Wait for this script's place, and hold it until the block ends or the page is laid out."""
    if limits.current().visitors_each is None:
        yield
        return
    address = told_by_proxy(str(st.context.ip_address or ""), st.context.headers.get("X-Forwarded-For") or "")
    with _changed:
        _changed.wait_for(lambda: _drawn[address] < AT_ONCE, PATIENCE)
        _drawn[address] += 1
    _held.address = address
    try:
        yield
    finally:
        give_back()


def give_back() -> None:
    """Let the next one have this script's place, if it holds one: what is left to do is to follow something."""
    address = getattr(_held, "address", None)
    if address is None:
        return
    _held.address = None
    with _changed:
        _drawn[address] -= 1
        if not _drawn[address]:
            del _drawn[address]
        _changed.notify_all()
