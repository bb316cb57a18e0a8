"""Following open questions at the end of the page's script, when everything else is drawn.

A visitor's click ends it at once, as it ends any script. A timer (``st.fragment(run_every=...)``) would do worse here:
one that fires while ``st.switch_page`` is on its way leaves the next page empty.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import streamlit as st

from app.components import widgets
from app.plan.whatif_job import Job
from app.state import session

LOOK_AGAIN = 0.25  # seconds
LONGEST = 900.0  # seconds; a page that was left open does not go on for ever

_KEY = "_whatif_open"


def begin() -> None:
    """Forget what an earlier run of the page followed; call it first."""
    session.put(_KEY, [])


def later(job: Job, draw: Callable[[], object]) -> None:
    """Draw what is going on now, and again and again in ``follow``."""
    draw()
    session.value(_KEY).append((job, draw))


def follow() -> None:
    """Draw what is going on until a question has ended, then the page again; call it last."""
    following: list[tuple[Job, Callable[[], object]]] = session.value(_KEY, [])
    if following:
        widgets.laid_out()
    until = time.monotonic() + LONGEST
    while following and time.monotonic() < until:
        for job, draw in following:
            if not job.open:
                st.rerun()
            draw()
        time.sleep(LOOK_AGAIN)
