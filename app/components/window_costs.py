"""Measuring what windows of an analysis cost, in the background: begun by itself or by a button, and followed."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import formats
from app.components.packing import NOT_YOURS, begin
from app.components.poll import Look
from app.state import cached, session, visit
from app.state.choice import Draft
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.window_costs import likely_first
from come.pruning.windows import Window, WindowCost
from come.runs import Run
from come.serving import limits
from come.serving import window_costs as background
from come.serving.side_jobs import SideJob

LARGE = 1.5e9  # parameters; windows of a larger model are measured only when the visitor says so
NEW = 4  # windows, after which a page is drawn anew while more are measured
LEFT = "Of the plan with this window in it"  # the layers that a table tells beside a window
SCORED_ON = "calibration and mixed text"  # what costs are taken on: of other tokens than a prediction
LOOKS = 4  # of a page that follows the job, after which its files are read again


def measuring(
    run: Run, measured: Measurement, facts: Facts, is_example: bool, sizes: Sequence[int]
) -> tuple[SideJob, Sequence[WindowCost], list[Window]]:
    """What measures the windows of an analysis, begun where that is to be; those that are measured, and the others."""
    job, found = background.measuring(run), cached.window_costs(run)
    left = [] if is_example else _left(found, measured, facts, sizes)
    if left and _by_itself(run, facts, job, found, sizes):
        begin(background.start, run, sizes, limits.current().window_seconds)
        job = background.measuring(run)
    return job, found, left


def layers(cost: WindowCost) -> int:
    """How many layers its window has."""
    return cost.last - cost.first + 1


def layers_left(cost: WindowCost, plan: Draft, facts: Facts) -> int:
    """How many layers the plan has once the window is in it, and what it overlaps is not."""
    apart = [(a, b) for a, b in plan.windows or [] if b < cost.first or a > cost.last]
    dropped = [layer for layer in plan.dropped if not cost.first <= layer <= cost.last]
    return facts.layers - sum(b - a for a, b in [*apart, cost.window]) - len(dropped)


def does(cost: WindowCost, planned: Sequence[Window]) -> str:
    """What a click on its button does to the plan, in few words."""
    if cost.window in planned:
        return "in the plan"
    return visit.replaced(*cost.window, planned).lower() or "add"


def _left(found: Sequence[WindowCost], measured: Measurement, facts: Facts, sizes: Sequence[int]) -> list[Window]:
    """The windows that are not measured yet."""
    known = {each.window for each in found}
    return [window for window in likely_first(facts, measured.block_influence, sizes) if window not in known]


def _by_itself(run: Run, facts: Facts, job: SideJob, found: Sequence[WindowCost], sizes: Sequence[int]) -> bool:
    """Whether measuring is to begin without being asked: once for each size, of a model that is small enough."""
    fresh = job.status == "none" or (job.status == "done" and not set(sizes) <= set(map(layers, found)))
    stopped = (run.path / background.STOP).exists()
    return fresh and not stopped and facts.parameters <= LARGE and session.owns(run)


def standing(run: Run, job: SideJob, sizes: Sequence[int], left: int) -> list[Look]:
    """How far measuring is, with a button to stop it or to go on."""
    if job.status == "working":
        return [_followed(run, left)]
    if job.status == "failed":
        st.error(formats.sentence(f"{job.error} {job.hint}"), icon=":material/error:")
    if left:
        seconds = limits.current().window_seconds
        st.button(
            f"Measure {left} more, up to {formats.duration(seconds)}",
            key="measure-windows",
            icon=":material/timer:",
            on_click=begin,
            args=(background.start, run, sizes, seconds),
            disabled=not session.owns(run),
            help="In the background; the likeliest windows come first, and what is measured stays."
            if session.owns(run)
            else NOT_YOURS,
        )
    return []


def _followed(run: Run, left: int) -> Look:
    """Tells how far the job is, with a button to stop it; and when the page is to be drawn anew."""
    seconds = formats.duration(limits.current().window_seconds)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        place = st.empty()
        if session.owns(run):
            st.button(
                "Stop", key="stop-windows", icon=":material/stop_circle:", on_click=begin, args=(background.stop, run)
            )
    known, looks = len(cached.window_costs(run)), 0

    def look() -> bool:
        nonlocal looks
        looks += 1
        if looks % LOOKS != 1:
            return False
        job = background.measuring(run)
        now = len(cached.window_costs(run))
        doing = formats.sentence(job.message) or "At work"
        place.caption(
            f":material/progress_activity: {doing} … {now - known + 1} of {left} left, for up to {seconds}. "
            "You may leave this page."
        )
        return job.status != "working" or now >= known + (NEW if known else 1)

    look()
    return look
