"""The chart of what merging each window costs, and as marks what makes the cost, or removals."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from app import theme
from app.figures.similarity import OPEN, PLANNED, box, layer_ticks
from come.pruning.windows import WindowCost

COST, PARALLEL, REMOVAL = theme.CATEGORIES[2], theme.CATEGORIES[1], theme.CATEGORIES[4]  # blue is what is planned
ROOM = 1.12  # above the highest mark
TOP = 3.0  # medians, at which the axis ends; what reaches farther is cut off, its number above it
TICK = 0.014  # of the axis, how thick a tick is
LETTER, LINE = 7.5, 16  # pixels that a character, and that a line, above the plot takes


def costs(
    found: Sequence[WindowCost],
    layers: int,
    *,
    planned: Sequence[tuple[int, int]] = (),
    selected: tuple[int, int] | None = None,
    split: bool = False,
) -> go.Figure:
    """A bar a window where it lies in the model, as high as its merge costs, and a mark of what it is compared with.

    Args:
        found: windows of one size, at least one; customdata of the bars is [first, last].
        layers: of the model.
        planned: windows of the plan, marked under their bars.
        selected: the window that is open, its bar outlined.
        split: the mark is a tick at the parallel error (all units kept): as far as it stands below the bar's end,
            fewer units cost more, and above it the refit won that back. Else a diamond at the removal.
    """
    shown = sorted((each for each in found if math.isfinite(each.merged)), key=lambda each: each.first)
    size = shown[0].last - shown[0].first + 1 if shown else 2
    places = [(each.first + each.last) / 2 for each in shown]
    marks = [each.parallel if split else each.removal_refitted for each in shown]
    top = _top([each.merged for each in shown], marks)
    look = {
        "x": places,
        "customdata": [[each.first, each.last] for each in shown],
        "text": [hover(each) for each in shown],
        "hovertemplate": "%{text}<extra></extra>",
    }
    figure = go.Figure(_bar(look, [each.merged for each in shown], COST, name="cost", width=0.66))
    held = [mark if mark <= top else None for mark in marks]
    if split:
        figure.add_traces(_ticks(look, held, TICK * top))
    else:
        diamond = {"symbol": "diamond", "size": 8, "color": REMOVAL}
        figure.add_trace(go.Scatter(y=held, mode="markers", name="removed instead", marker=diamond, **look))
    figure.update_layout(barmode="overlay", shapes=_marks(top, planned, size), clickmode="event+select")
    for each in shown:
        if each.window == selected:
            figure.add_shape(_outline(each, top))
    theme.finish(
        figure,
        parts_of_cheapest(shown) if split else finding(shown),
        x="Layer in the middle of the window",
        y="cost of merging, nats",
        height=400,
        legend=True,
    )
    compared = (PARALLEL, "all units kept") if split else (REMOVAL, "removed instead")
    _tell_cut_off(figure, shown, marks, top, *compared)
    figure.update_xaxes(range=[-0.6, layers - 0.4], showgrid=False, tickvals=layer_ticks(layers - 1))
    figure.update_yaxes(range=[-0.045 * top, top], nticks=4)
    figure.update_traces(selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}})
    return figure.update_layout(hovermode="closest", legend={"traceorder": "normal"})


def _bar(look: dict[str, Any], heights: Sequence[float | None], color: str, **more: Any) -> go.Bar:
    return go.Bar(y=heights, marker={"color": color, "line": {"width": 0}}, textposition="none", **look, **more)


def _ticks(look: dict[str, Any], at: Sequence[float | None], thick: float) -> list[go.Bar | go.Scatter]:
    """Ticks a little wider than the bars, so that they are seen on them, too; and one for the legend."""
    heights = [None if each is None else thick for each in at]
    base = [(each or 0.0) - thick / 2 for each in at]
    ticks = _bar(look, heights, PARALLEL, base=base, width=0.94, showlegend=False)
    line = {"symbol": "line-ew", "size": 16, "line": {"width": 4, "color": PARALLEL}}
    return [ticks, go.Scatter(x=[None], y=[None], mode="markers", name="all units kept", marker=line)]


def _tell_cut_off(
    figure: go.Figure, shown: Sequence[WindowCost], marks: Sequence[float], top: float, color: str, mark_name: str
) -> None:
    """Above each bar what is off the axis: by name where it is one, and upright where neighbours leave no room."""
    off: dict[float, list[tuple[str, float, str]]] = {}
    for each, mark in zip(shown, marks, strict=True):
        beyond = [
            (name, at, hue) for name, at, hue in (("cost", each.merged, COST), (mark_name, mark, color)) if at > top
        ]
        if beyond:
            off[(each.first + each.last) / 2] = beyond
    if not off:
        return
    alone = len(off) == 1
    middle = (shown[0].first + shown[-1].last) / 2
    longest = 0
    for place, beyond in off.items():
        if alone:
            told = ", ".join(f"<span style='color:{hue}'>{name} {value:.2g}</span>" for name, value, hue in beyond)
            look = {"text": f"▲ {told}", "xanchor": "left" if place < middle else "right", "xshift": -6}
        else:
            told = " ".join(f"<span style='color:{hue}'>▶</span>{value:.2g}" for _, value, hue in beyond)
            look = {"text": told, "xanchor": "center", "textangle": -90}  # an arrow to the right points up then
        longest = max(longest, len(re.sub("<.*?>", "", told)))
        at = {"x": place, "y": top, "yanchor": "bottom", "borderpad": 0, "showarrow": False, "font": {"size": 11}}
        figure.add_annotation(at | look)
    room = LINE if alone else LETTER * longest + 4
    # Hung from the top: the chart may be shown at another height than this.
    legend = {"yref": "container", "y": 1, "yanchor": "top"}
    figure.update_layout(height=figure.layout.height + room, margin_t=figure.layout.margin.t + room, legend=legend)


def finding(found: Sequence[WindowCost]) -> str:
    """Which merge costs least, and what the removal beside it does, in one sentence."""
    if not found:
        return "No window is measured yet"
    best = min(found, key=lambda each: each.merged)
    gone = best.last - best.first
    instead = "one of them" if gone == 1 else f"{gone} of them"
    removing = f"removing {instead} {best.removal_refitted:.3f}"
    if len(found) == 1:
        return f"Merging layers {best.first}–{best.last} costs {best.merged:.3f} nats; {removing}"
    return (
        f"Of {len(found)} measured, merging layers {best.first}–{best.last} costs least: {best.merged:.3f} nats; "
        f"{removing}"
    )


def parts_of_cheapest(found: Sequence[WindowCost]) -> str:
    """What makes the cost of the merge that costs least, in one sentence."""
    if not found:
        return "No window is measured yet"
    best = min(found, key=lambda each: each.merged)
    split = f"Joining layers {best.first}–{best.last}, all units kept, costs {best.parallel:.3f} nats"
    return f"{split}; with fewer units, refitted, {best.merged:.3f}"


def hover(cost: WindowCost) -> str:
    """All numbers of a window, in lines."""
    return (
        f"<b>Layers {cost.first}–{cost.last}</b><br>merged {cost.merged:.3f}<br>"
        f"= all units kept {cost.parallel:.3f} {'+ fewer units' if cost.unit_error >= 0 else '− won back'} "
        f"{abs(cost.unit_error):.3f}<br>"
        f"only layer {cost.stays} stays {cost.removal:.3f}, refitted {cost.removal_refitted:.3f}"
    )


def _top(merged: Sequence[float], marks: Sequence[float]) -> float:
    """Where the axis ends: above most merges and what they are compared with, whatever the few dearest cost."""
    if not merged:
        return 1.0
    ranked = sorted(merged)
    return ROOM * min(max(*ranked, *marks), max(TOP * ranked[len(ranked) // 2], 2 * ranked[0]))


def _marks(top: float, planned: Sequence[tuple[int, int]], size: int) -> list[dict[str, object]]:
    """A line under the bars that are windows of the plan."""
    middles = [(first + last) / 2 for first, last in planned if last - first + 1 == size]
    look = {"fillcolor": PLANNED, "line": {"width": 0}}
    return [box(middle - 0.4, middle + 0.4, -0.036 * top, -0.014 * top, **look) for middle in middles]


def _outline(window: WindowCost, top: float) -> dict[str, object]:
    """Round the bar of the window that is open, in the colour that it has everywhere."""
    middle = (window.first + window.last) / 2
    return box(middle - 0.48, middle + 0.48, 0, min(window.merged, top), line={"color": OPEN, "width": 2.5})
