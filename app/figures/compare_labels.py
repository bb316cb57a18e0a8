"""Names at the lines' ends, in the place of a legend: for a chart that is narrow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import plotly.graph_objects as go

from come.report.chart import ABOVE
from come.report.points import Point

MOST, LONGEST = 6, 18  # names, and letters of a line of one, up to which they have room at the lines' ends
LETTER, LINE = 6.6, 19  # pixels
AWAY = 11  # pixels from a point to a name beside it
BESIDE, APART = 14, 16  # and to one that a line leads to
MARK = 12  # half the height of the original's star
LEAD = 0.06  # of the chart's width, from the last points to their names: a line of each one's colour leads there
LEGEND = 32  # pixels that a legend took above the plot


@dataclass(frozen=True)
class _End:
    """The last point of a line, as the chart holds it, and the line's name."""

    x: float
    y: float
    color: str
    name: str

    @property
    def lines(self) -> list[str]:
        return self.name.split(", ")

    @property
    def text(self) -> str:
        """The name, a line a part."""
        return ",<br>".join(self.lines)


def at_ends(figure: go.Figure, drawn: Sequence[Point]) -> go.Figure:
    """Name the lines where they end; where they are too many or their names too long, the legend stays.

    Args:
        figure: of `compare.lines`, smaller models to the right, changed in place.
        drawn: its points.
    """
    ends = [_End(t.x[-1], t.y[-1], t.line.color, t.name) for t in figure.data if t.mode == "lines+markers"]
    longest = max((len(line) for end in ends for line in end.lines), default=0)
    if not ends or len(ends) > MOST or longest > LONGEST:
        return figure
    starts = [_End(t.x[0], t.y[0], t.marker.color, t.name) for t in figure.data if t.name == "original"]
    sizes = [point.size for point in drawn]
    wide = max([*sizes, *(start.x for start in starts)]) - min(sizes)
    near = 0.15 * wide
    last = [end for end in ends if end.x <= min(sizes) + near]
    longest = max(len(line) for end in [*last, *starts] for line in end.lines)
    figure.update_layout(showlegend=False, margin_t=figure.layout.margin.t - LEGEND)
    figure.update_layout(margin_r=AWAY + LETTER * (longest + 2))
    scale, top = _settle(figure)
    right = min(end.x for end in last)
    shown = [replace(end, y=top if end.y > top * ABOVE else end.y) for end in [*last, *starts]]
    left, edge = figure.layout.xaxis.range
    there = min(edge, right - LEAD * (wide or 1.0))  # at the plot's edge: no line of the grid runs through a name
    figure.update_xaxes(range=[left, there])
    for end, up in zip(shown, _spread(figure, shown, scale), strict=True):
        if end not in starts:  # to that name its own line leads, across the chart
            figure.add_trace(_lead(figure, end, there, up / scale))
        _name(figure, replace(end, x=there), end.text, xanchor="left", xshift=4, yshift=up)
    middle = (right + max([*sizes, *(start.x for start in starts)])) / 2
    for end in ends:
        if end not in last:
            lowest = all(end.y <= other.y for other in ends if abs(other.x - end.x) <= near)
            away = max([APART, *(_below(figure, end, start, scale) for start in starts)]) if lowest else APART
            beside = {"xanchor": "right", "ax": -BESIDE} if end.x < middle else {"xanchor": "left", "ax": BESIDE}
            level = {"yanchor": "top", "ay": away} if lowest else {"yanchor": "bottom", "ay": -away}
            led = {"showarrow": True, "arrowhead": 0, "arrowcolor": end.color, "arrowwidth": 1.5, "standoff": 6}
            known = [other for other in last if end.lines[0] == other.name]  # its method's own line, named already
            _name(figure, end, ",<br>".join(end.lines[len(known) :]), **led, **beside, **level)
    return figure


def _below(figure: go.Figure, end: _End, start: _End, scale: float) -> float:
    """Pixels from a point down to under the original's mark, where its line would run through the point's name."""
    down = scale * (_height(figure, end.y) - _height(figure, start.y))
    return down + MARK if 0 < down < AWAY + LINE * len(end.lines) else 0.0


def _lead(figure: go.Figure, end: _End, there: float, up: float) -> go.Scatter:
    """A thin line of a line's colour from its end to its name, which stands ``up`` units of the axis above it."""
    height = _height(figure, end.y) + up
    reached = 10**height if figure.layout.yaxis.type == "log" else height
    return go.Scatter(
        x=[end.x, there],
        y=[end.y, reached],
        mode="lines",
        line={"color": end.color, "width": 1.5},
        cliponaxis=False,
        hoverinfo="skip",
        showlegend=False,
    )


def _name(figure: go.Figure, end: _End, text: str, **where: Any) -> None:
    at = {"x": end.x, "y": _height(figure, end.y), "text": text, "align": "left"}
    figure.add_annotation(at | {"showarrow": False, "font": {"size": 12}} | where)


def _height(figure: go.Figure, value: float) -> float:
    """A value where the axis has it: plotly places names on a logarithmic one by the logarithm."""
    return math.log10(value) if figure.layout.yaxis.type == "log" else value


def _settle(figure: go.Figure) -> tuple[float, float]:
    """Settle the range of the vertical axis; how many pixels a unit of it takes, and where its arrows stand."""
    margin = figure.layout.margin
    if figure.layout.yaxis.range is None:
        ends = [_height(figure, y) for trace in figure.data for y in trace.y or ()]
        room = max(ends) - min(ends) or 1.0
        figure.update_yaxes(range=[min(ends) - 0.3 * room, max(ends) + 0.1 * room])  # a name stands below the lowest
    low, high = figure.layout.yaxis.range
    top = 10**high / ABOVE if figure.layout.yaxis.type == "log" else high
    return float(figure.layout.height - margin.t - margin.b) / (high - low), top


def _spread(figure: go.Figure, ends: Sequence[_End], scale: float) -> list[float]:
    """Pixels up from its point to each name, so that none lies on another: the least that is needed, from below."""
    shifts = dict.fromkeys(range(len(ends)), 0.0)
    top = -math.inf
    for place in sorted(shifts, key=lambda each: ends[each].y):
        at, tall = scale * _height(figure, ends[place].y), LINE * len(ends[place].lines)
        shifts[place] = max(0.0, top + tall / 2 - at)
        top = at + shifts[place] + tall / 2
    return list(shifts.values())
