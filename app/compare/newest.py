"""Where the compare page opens: at the size of the newest run, if that has a rival there."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import formats
from app.components import widgets
from app.state import request, session, widget_state
from come.errors import ComeError
from come.report import verdict
from come.report.comparison import Entry
from come.report.metrics import Metric
from come.report.points import Point
from come.runs import Run

_SEEN = "_newest-compared"
Places = dict[int, list[Point]]  # points by layers left


def sizes(places: Places, chosen: Sequence[Entry]) -> Places:
    """Of the sizes those at which the newest run stands; of a sweep, those of all its runs.

    Args:
        places: the points by layers left.
        chosen: the runs, newest first.
    """
    first = chosen[0]
    ids = {item.run.id for item in chosen if item is first or (first.sweep and item.sweep == first.sweep)}
    return {at: ranked for at, ranked in places.items() if any(ids.intersection(point.runs) for point in ranked)}


def opening(places: Places, chosen: Sequence[Entry]) -> int:
    """At how many layers to judge at first: the newest run's, else where there is something to compare."""
    newest = sizes(places, chosen)
    several = [{at: ranked for at, ranked in some.items() if len(ranked) > 1} for some in (newest, places)]
    return verdict.usual_place(next(filter(None, [*several, newest]), places))


def follow(entries: Sequence[Entry]) -> None:
    """Let go of the size that was chosen before the newest of these runs was there; a link's size stays."""
    first = entries[0].run.id
    before = st.session_state.get(_SEEN)
    session.put(_SEEN, first)
    if before not in (None, first):
        widget_state.forget("judged-at")


def alone(places: Places, layers: int | None, chosen: Sequence[Entry], original: Point | None, metric: Metric) -> None:
    """That the newest run has no rival of its size yet, and the way to one.

    Args:
        places: the points by layers left. layers: where they are judged, which the verdict speaks of.
        chosen: the runs, newest first.
        original: the model as it was. metric: by what they are judged.
    """
    newest = sizes(places, chosen)
    if not newest or any(len(ranked) > 1 for ranked in newest.values()):
        return
    at, (point, *_) = next(iter(newest.items()))
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if layers not in newest:
            whole = original if metric.original is None else None
            beside = f", the original's {metric.say(whole.value)}" if whole is not None else ""
            st.markdown(
                f"No rival yet for your newest run, **{formats.literal(point.series)}, {at} layers**: "
                f"{metric.noun} {metric.say(point.value)}{beside}.",
                width="content",
            )
        if st.button("Run a rival", key="run-a-rival", icon=":material/arrow_forward:", type="tertiary"):
            _to_rivals_of(next(item.run for item in chosen if item.run.id in point.runs))


def _to_rivals_of(run: Run) -> None:
    """The run page with that run's model, text and plan: rivals are of its size and judged as it was."""
    try:
        choice, draft = request.from_json(request.to_json(run.config))
    except ComeError as error:
        st.error(formats.sentence(str(error)), icon=":material/error:")
        return
    session.set_choice(choice)
    session.set_draft(draft)
    session.open_run(None)
    st.switch_page(widgets.PAGES / "run.py")
