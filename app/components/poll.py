"""Following what is under way at the end of the page's script, when everything else is drawn.

Not by a timer (``st.fragment(run_every=...)``) on a page from which ``st.switch_page`` leads away: what a timer asks
while a click is on its way is answered after the next page is drawn, as a run of the page before, and the browser
clears all that it shows. The farther the visitor is from the server, the more often.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

import come.runs
from app.components import widgets
from come.runs import Run

LOOK_AGAIN = 0.25  # seconds, after which a click is noticed at the latest
LOOK_AT_RUNS = 8  # looks, after which the runs' states are read again
LONGEST = 6 * 3600.0  # seconds; a page that was left open does not go on for ever

Look = Callable[[], bool]
"""Draws how far something is, where a visitor's click ends the script; says whether to draw the page anew."""


def follow(looks: Sequence[Look]) -> None:
    """Look again and again, until one of them says that the page is to be drawn anew. Call it last."""
    if not looks:
        return
    widgets.laid_out()
    until = time.monotonic() + LONGEST
    while time.monotonic() < until:
        time.sleep(LOOK_AGAIN)
        for look in looks:
            if look():
                st.rerun()


def runs(place: DeltaGenerator, active: Sequence[Run], known: set[str]) -> Look:
    """Tells how many runs are at work or wait, until one ends or there is a new one.

    Args:
        place: where it is told.
        active: the runs.
        known: the ids of all runs that the page has seen.
    """
    count = f"{len(active)} runs are" if len(active) > 1 else "1 run is"
    words = f":material/progress_activity: {count} at work or waiting, and will show here when done."
    looks = 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        place.caption(words)
        return looks % LOOK_AT_RUNS == 0 and changed(active, known)

    place.caption(words)
    return look


def changed(active: Sequence[Run], known: set[str]) -> bool:
    """Whether one of the runs has ended, or there are others than the known ones."""
    return not all(run.state().active for run in active) or {run.id for run in come.runs.list_runs()} != known
