"""The chart of what merging each window costs, whole or by what makes it, and removals as marks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import plotly.graph_objects as go

from app import theme
from app.figures.similarity import OPEN, PLANNED, box, layer_ticks
from come.pruning.windows import WindowCost

PARALLEL, UNITS, BACK = theme.CATEGORIES[2], theme.CATEGORIES[1], theme.QUIET  # blue is what is planned
ROOM = 1.12  # above the highest mark
TOP = 3.0  # medians, at which the axis ends; what reaches farther is cut off


def costs(
    found: Sequence[WindowCost],
    layers: int,
    *,
    planned: Sequence[tuple[int, int]] = (),
    selected: tuple[int, int] | None = None,
    split: bool = False,
) -> go.Figure:
    """A bar a window where it lies in the model, as high as its merge costs.

    Args:
        found: windows of one size, at least one; customdata of the bars is [first, last].
        layers: of the model.
        planned: windows of the plan, marked under their bars.
        selected: the window that is open, with a band behind it.
        split: bars are cut into parallel error (all units kept) and unit error (fewer units), and no removal is drawn.
    """
    shown = sorted((each for each in found if math.isfinite(each.merged)), key=lambda each: each.first)
    size = shown[0].last - shown[0].first + 1 if shown else 2
    top = _top(shown)
    places = [(each.first + each.last) / 2 for each in shown]
    ends = [[each.first, each.last] for each in shown]
    figure = go.Figure()
    parts = _parts(shown) if split else [("merged into one", PARALLEL, "", [each.merged for each in shown])]
    for name, color, shape, heights in parts:
        if any(heights):
            figure.add_trace(
                go.Bar(
                    x=places,
                    y=heights,
                    name=name,
                    width=0.72,
                    customdata=ends,
                    marker={
                        "color": "rgba(0, 0, 0, 0)" if shape else color,
                        "line": {"width": 0},
                        "pattern": {"shape": shape, "fgcolor": color, "size": 5, "solidity": 0.35},
                    },
                    text=[hover(each) for each in shown],
                    textposition="none",
                    hovertemplate="%{text}<extra></extra>",
                )
            )
    if not split:  # what the parts come to is the question then, not what else there is
        removals = [each.removal_refitted for each in shown]
        figure.add_trace(
            go.Scatter(
                x=places,
                y=[height if height <= top else None for height in removals],
                mode="markers",
                name="removed instead, refitted",
                customdata=ends,
                marker={"symbol": "diamond", "size": 8, "color": theme.CATEGORIES[4]},
                text=[hover(each) for each in shown],
                hovertemplate="%{text}<extra></extra>",
            )
        )
    figure.update_layout(barmode="stack", shapes=_marks(top, planned, selected, size), clickmode="event+select")
    for place, each in zip(places, shown, strict=True):
        if each.merged > top:
            figure.add_annotation(
                x=place + 0.4,
                y=top,
                xanchor="left",
                yanchor="top",
                text=f"↑{each.merged:.2g}",
                showarrow=False,
                font={"size": 11},
            )
    theme.finish(
        figure,
        parts_of_cheapest(shown) if split else finding(shown),
        x="Layer in the middle of the window",
        y="cost of merging, nats",
        height=400,
        legend=True,
    )
    figure.update_xaxes(range=[-0.6, layers - 0.4], showgrid=False, tickvals=layer_ticks(layers - 1))
    figure.update_yaxes(range=[-0.045 * top, top], nticks=4)
    figure.update_traces(selected={"marker": {"opacity": 1}}, unselected={"marker": {"opacity": 1}})
    return figure.update_layout(hovermode="closest", legend={"traceorder": "normal"})


def _parts(shown: Sequence[WindowCost]) -> list[tuple[str, str, str, list[float]]]:
    """What makes the cost: name, colour, pattern and heights of each part of the bars."""
    return [
        ("all units kept", PARALLEL, "", [min(each.parallel, each.merged) for each in shown]),
        ("fewer units", UNITS, "", [max(each.unit_error, 0.0) for each in shown]),
        ("won back by the refit", BACK, "/", [max(-each.unit_error, 0.0) for each in shown]),
    ]


def finding(found: Sequence[WindowCost]) -> str:
    """Which merge costs least, and what the removal beside it does, in one sentence."""
    if not found:
        return "No window is measured yet"
    best = min(found, key=lambda each: each.merged)
    gone = best.last - best.first
    instead = "one of them" if gone == 1 else f"{gone} of them"
    return (
        f"Of {len(found)} measured, merging layers {best.first}–{best.last} costs least: {best.merged:.3f} nats; "
        f"removing {instead} {best.removal_refitted:.3f}"
    )


def parts_of_cheapest(found: Sequence[WindowCost]) -> str:
    """What makes the cost of the merge that costs least, in one sentence."""
    if not found:
        return "No window is measured yet"
    best = min(found, key=lambda each: each.merged)
    rest = f"the refit wins back {-best.unit_error:.3f}"
    if best.unit_error >= 0:
        rest = f"fewer units add {best.unit_error:.3f}"
    return f"Joining layers {best.first}–{best.last}, all units kept, costs {best.parallel:.3f} nats; {rest}"


def hover(cost: WindowCost) -> str:
    """All numbers of a window, in lines."""
    return (
        f"<b>Layers {cost.first}–{cost.last}</b><br>merged {cost.merged:.3f}<br>"
        f"= all units kept {cost.parallel:.3f} {'+ fewer units' if cost.unit_error >= 0 else '− won back'} "
        f"{abs(cost.unit_error):.3f}<br>"
        f"only layer {cost.stays} stays {cost.removal:.3f}, refitted {cost.removal_refitted:.3f}"
    )


def _top(shown: Sequence[WindowCost]) -> float:
    """Where the axis ends: above most merges and what they are compared with, whatever the few dearest cost."""
    merged = sorted(each.merged for each in shown)
    if not merged:
        return 1.0
    most = TOP * merged[len(merged) // 2]
    return ROOM * min(max(max(each.merged, each.removal_refitted) for each in shown), max(most, 2 * merged[0]))


def _marks(
    top: float, planned: Sequence[tuple[int, int]], selected: tuple[int, int] | None, size: int
) -> list[dict[str, object]]:
    """A line under the windows of the plan, and a band behind the open one; of other sizes none is drawn."""
    ends = [
        ((first + last) / 2 - 0.4, (first + last) / 2 + 0.4) if last - first + 1 == size else (first - 0.4, last + 0.4)
        for first, last in planned
    ]
    shapes = [box(*each, -0.036 * top, -0.014 * top, fillcolor=PLANNED, line={"width": 0}) for each in ends]
    if selected is not None and selected[1] - selected[0] + 1 == size:
        middle = sum(selected) / 2
        look = {"fillcolor": OPEN, "opacity": 0.16, "line": {"width": 0}, "layer": "below"}
        shapes.append(box(middle - 0.48, middle + 0.48, 0, top, **look))
    return shapes
