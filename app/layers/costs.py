"""The layers page's table of what merging each window costs: measured in the background, shown as it comes."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.components import widgets, window_costs
from app.components.how_sure import how_sure
from app.components.poll import Look
from app.figures import window_costs as figures
from app.layers import edited, legend
from app.state import session, visit, widget_state
from come.measurement.measurement import Measurement
from come.models import Facts
from come.pruning.windows import Window, WindowCost
from come.runs import Run

FIRST = 5  # windows that are listed at once

WHAT = r"""
The cost is the Kullback-Leibler (KL) divergence $\mathrm{KL}(\text{original}\,\|\,\text{changed})$ in nats per
token: the logarithms are natural ones, so 1 nat is a factor of $e \approx 2.7$ in probability.

**Cost**: the window becomes one layer as CoMe-Joint makes it: the sum of the next two.

**All units kept** (parallel error): all layers of the window, whole, run side by side on what enters it, and what they
add is added together. It is what joining them costs before a unit is dropped.

**Fewer units** (unit error): what comes on top when one layer's worth of units stays and output maps are refitted.
In the chart it is the way from the tick to the bar's end. Below zero, where the tick stands above the bar, the refit
won back more than dropping them costs.

**Removed instead**: one layer of the window stays, of a pair the cheaper way; refitted: both its output maps are
moved as those of a merge are.
"""

# Heads of the list's columns, what they say when pointed at. There is no room for all at once.
HEADS = {
    "Layers": "The window",
    "Cost": "Divergence (KL), nats per token, when the window becomes one layer",
    "All units kept": "Parallel error: what it costs to run all layers of the window, whole, side by side",
    "Fewer units": "Unit error: what comes on top when one layer’s worth of units stays and output maps are refitted",
    "Removed instead": "When one layer of the window stays and its output maps are refitted",
    "Layers left": window_costs.LEFT,
}
OF_SPLIT, OF_WHOLE = ("All units kept", "Fewer units"), ("Removed instead", "Layers left")
BELOW_ZERO = "Below zero: refitting the output maps won back more than dropping units cost."

SURE = """Judged on tokens on which nothing is fitted: the last of the calibration's, a quarter of them at most, and as
many of *mix*, several kinds of text, as what is cheap on one kind may be dear on others."""

_STYLE = """<style>
.come-cost { display: grid; grid-template-columns: 3.4rem; grid-auto-flow: column; grid-auto-columns: minmax(0, 1fr);
  gap: .5rem; width: 100%; font-size: .875rem; font-variant-numeric: tabular-nums; text-align: right;
  align-items: baseline; }
.come-cost > :first-child { text-align: left; white-space: nowrap; }
.come-cost.head { font-size: .75rem; opacity: .78; line-height: 1.2; }
.come-cost b { font-weight: 600; }
[class*=st-key-cost-row] { border-top: 1px solid var(--come-line); padding: .1rem 0; flex-wrap: nowrap !important; }
[class*=st-key-cost-row] :is(.stButton, button) { width: 7.2rem; }
[class*=st-key-cost-row] button { min-height: 1.9rem; padding: 0; white-space: nowrap; }
[class*=st-key-cost-row] button p { font-size: .875rem; }
.st-key-cost-rows-head { padding-right: 8.2rem !important; }  /* the buttons' width */
/* The row names its window; for those who hear the page the button does, too. */
[class*=st-key-cost-row] button strong {
  position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
}
</style>"""


def draw(
    run: Run,
    measured: Measurement,
    facts: Facts,
    is_example: bool,
    sizes: Sequence[int],
    planned: Sequence[Window],
    least_change: Sequence[Window],
    until: str = "",
) -> list[Look]:
    """The section; what the page is to follow while windows are measured.

    Args:
        run: the analysis, and ``measured``: what it found.
        facts: of its model.
        is_example: it is the shipped one, beside which nothing is measured.
        sizes: how many layers the windows have that are wanted: pairs, and those of the plan.
        planned: windows of the plan.
        least_change: the windows that the matrix above marks.
        until: how long an automatic plan goes by block influence, as half a sentence; empty where it does not.
    """
    st.header("What merging each window costs")
    if until:
        st.caption(f"{session.plan_named().capitalize()} goes by block influence {until}, and may change then.")
    job, found, left = window_costs.measuring(run, measured, facts, is_example, sizes)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        offered = set(map(window_costs.layers, found)) | (set() if is_example else set(sizes))
        size = _size(sorted(offered or sizes))
        split = st.toggle("What makes the cost", key="split-cost")
        widgets.info("What is measured?", WHAT, key="formula-costs")
    shown = [each for each in found if window_costs.layers(each) == size]
    if shown:
        _shown(shown, facts, planned, split)
        size_of_plan = _elsewhere(size, found, planned, is_example)
        if words := f"{_unlike(shown, least_change)} {size_of_plan}".strip():
            st.caption(words)
    if is_example:
        _of_example(size, bool(shown))
        return []
    return window_costs.standing(run, job, sizes, len(left))


def _size(sizes: list[int]) -> int:
    widget_state.keep_among("cost-size", sizes, sizes[0])
    st.segmented_control(
        "Layers in a window",
        sizes,
        key="cost-size",
        required=True,
        format_func="{} layers".format,
        label_visibility="collapsed",
    )
    return int(session.value("cost-size"))


def _shown(
    shown: Sequence[WindowCost],
    facts: Facts,
    planned: Sequence[Window],
    split: bool,
) -> None:
    """The chart, and beside it the windows with a button each, the cheapest first."""
    window = (session.value("first"), session.value("last"))
    plan = visit.shown_plan()
    chart, table = st.columns([1.2, 1], gap="medium")
    with chart:
        widgets.chart(
            figures.costs(shown, facts.layers, planned=planned, selected=window, split=split),
            key="window-costs",
            on_select=_open_clicked,
            alt="What merging each window costs; the numbers are in the list beside it",
        )
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            marked = {each.window for each in shown}
            legend.draw(lowest=False, opened=window in marked, in_plan=not marked.isdisjoint(planned))
            how_sure(SURE, key="sure-of-costs")
    with table:
        st.html(_STYLE)
        ranked = sorted(shown, key=lambda each: each.merged)
        head = "".join(
            f"<span><span class='come-told' title='{told}'>{word}</span></span>"
            for word, told in HEADS.items()
            if word not in (OF_WHOLE if split else OF_SPLIT)
        )
        with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="cost-rows-head"):
            st.html(f"<div class='come-cost head'>{head}</div>")
        more = len(ranked) > FIRST and session.value("all-costs")
        listed = ranked if more else ranked[:FIRST]
        for cost in listed:
            _row(cost, planned, split, window_costs.layers_left(cost, plan, facts))
        if split and any(each.unit_error < 0 for each in listed):
            st.caption(BELOW_ZERO)
        if len(ranked) > FIRST:
            st.toggle(f"Show all {len(ranked)}", key="all-costs")
        edited.draw("costs")


def _unlike(shown: Sequence[WindowCost], least_change: Sequence[Window]) -> str:
    """That what changes the state least is not what costs least, where both are told on this page and no tie."""
    costs = {each.window: each.merged for each in shown}
    cheapest = min(costs, key=costs.__getitem__)
    least = least_change[0]
    if least not in costs or cheapest in least_change:
        return ""
    (a, b), (c, d) = least, cheapest
    return (
        f"Least change is not least cost: merging {a}–{b}, which change the state least, costs "
        f"{costs[least]:.3f}; {c}–{d} cost {costs[cheapest]:.3f}."
    )


def _elsewhere(size: int, found: Sequence[WindowCost], planned: Sequence[Window], is_example: bool) -> str:
    """Why the plan's window is none of those that are shown, which are of another size."""
    sizes = {last - first + 1 for first, last in planned}
    if not sizes or size in sizes:
        return ""
    which = " and ".join(f"{first}–{last}" for first, last in planned[:3])
    choice = " or ".join(f"{each} layers" for each in sorted(sizes))
    best = f", of {choice} the cheapest measured" if _cheapest(found, planned) else ""
    name = session.plan_named().capitalize()
    if not sizes & {window_costs.layers(each) for each in found} and is_example:
        return f"{name} merges {which}: of windows of {choice}, the example has no costs."
    return f"{name} merges {which}{best}: choose {choice} above to see it."


def _cheapest(found: Sequence[WindowCost], planned: Sequence[Window]) -> bool:
    """Whether the plan has one window, which costs the least of those of its size that are measured."""
    sizes = {last - first + 1 for first, last in planned}
    alike = sorted((each for each in found if window_costs.layers(each) in sizes), key=lambda each: each.merged)
    return len(planned) == 1 and len(alike) > 1 and alike[0].window == planned[0]


def _row(cost: WindowCost, planned: Sequence[Window], split: bool, left: int) -> None:
    name = f"{cost.first}–{cost.last}"
    parts = (f"{cost.parallel:.3f}", f"{cost.unit_error:+.3f}".replace("-", "−"))
    more = parts if split else (f"{cost.removal_refitted:.3f}", f"{left}")
    numbers = "".join(f"<span>{each}</span>" for each in more)
    does = window_costs.does(cost, planned)
    whose = f"by {name}" if does.startswith("replace") else name
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"cost-row-{name}"):
        st.html(f"<div class='come-cost'><span>{name}</span><b>{cost.merged:.3f}</b>{numbers}</div>")
        st.button(
            f"{does} **{whose}**",
            key=f"add-{name}",
            disabled=cost.window in planned,
            on_click=visit.add_window,
            args=(cost.first, cost.last),
        )


def _open_clicked() -> None:
    points = session.clicked("window-costs")
    if points:
        first, last = (int(number) for number in points[0]["customdata"][:2])
        session.put("first", first)
        session.put("last", last)


def _of_example(size: int, any_shown: bool) -> None:
    if not any_shown:
        st.caption(f":material/bookmark: The example has no windows of {size} layers.")
    widgets.next_step("model", "Measure other windows")
