"""The compare page's main chart: how much worse than one model the others are, on the same tokens or questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from itertools import pairwise
from statistics import median

import plotly.graph_objects as go

from app import theme
from come.report import paired
from come.report.looks import Style, style
from come.report.metrics import Metric, factor
from come.report.paired import Difference
from come.report.points import Point

ROW = 48  # pixels
ROW_OF_A_ROOM, TALLEST = 84, 480  # the same before a room, and of all rows there
FAR = 4.0  # times the median difference: what lies farther is an arrow at the edge
WORTH = 1.5  # times that: up to here a longer axis is better than arrows
TIMES = (1e-3, 0.01, 0.1, 0.2, 0.5, 1, 2, 3, 5, 10, 30, 100, 1e3, 1e4, 1e5)  # ticks of an axis that goes far
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5)  # between the ticks of one that does not
MOST_TICKS = 8


def differences(
    drawn: Sequence[Point],
    found: Sequence[Difference | None],
    reference: Point,
    metric: Metric,
    methods: Sequence[str],
    title: str,
    before_a_room: bool = False,
) -> go.Figure:
    """A row a point, the best on top: its difference from the reference, with its 95% interval.

    A clicked point's customdata starts with the ids of its runs, joined by spaces. What cannot be told from the
    reference is hollow; what lies far off is an arrow at the edge.

    Args:
        drawn: the points of one size, ranked.
        found: how each differs from the reference; None for the reference itself.
        reference: what stands at the line.
        methods: all registered names, in order: they fix the colours.
        title: the finding.
        before_a_room: as tall as a screen has room for.
    """
    tall = max(ROW, min(ROW_OF_A_ROOM, TALLEST // len(drawn))) if before_a_room else ROW
    scale = 1.0 if metric.key == "perplexity" else metric.scale
    shown = [0.0 if each is None else each.value * scale for each in found]
    reach = [0.0 if each is None or each.reach is None else each.reach * scale for each in found]
    low, high = _ends(shown, reach)
    figure = go.Figure()
    for row, (point, each) in enumerate(zip(drawn, found, strict=True)):
        name = escape(point.series, quote=False)
        at, off = min(max(shown[row], low), high), not low <= shown[row] <= high
        look = Style(theme.ORIGINAL, "star", "solid") if point.method == "original" else style(point.method, methods)
        told = metric.say(point.value) if each is None else paired.say(each, metric)
        surely = each is None or each.told in ("better", "worse")
        symbol = ("triangle-right" if shown[row] > high else "triangle-left") if off else look.marker
        figure.add_scatter(
            x=[at],
            y=[row],
            mode="markers",
            marker={
                "color": look.color,
                "symbol": symbol if surely or off else f"{symbol.removesuffix('-open')}-open",
                "size": 13,
                "line": {"width": 2, "color": look.color},
            },
            unselected={"marker": {"opacity": 1}},
            error_x={"type": "data", "array": [reach[row]], "color": look.color, "thickness": 2, "width": 5}
            if reach[row] and not off
            else None,
            customdata=[[" ".join(point.runs), name, told, _words(each, metric)]],
            hovertemplate="<b>%{customdata[1]}</b><br>%{customdata[2]}<br>%{customdata[3]}<extra></extra>",
            showlegend=False,
        )
        for x, anchor, words in ((0, "left", f"{row + 1}. <b>{name}</b>"), (1, "right", told)):
            figure.add_annotation(
                x=x,
                y=row,
                xref="paper",
                xanchor=anchor,
                yshift=0.4 * tall,
                text=words,
                showarrow=False,
                font={"size": 13},
            )
    for row in range(len(drawn)):  # not through the names
        line = {"color": theme.INK, "width": 1.5}
        figure.add_shape(type="line", x0=0, x1=0, y0=row - 0.15, y1=row + 0.3, line=line, layer="below")
    theme.finish(figure, title, x=_axis(reference, metric), height=len(drawn) * tall + 90)
    figure.update_yaxes(range=[len(drawn) - 0.6, -0.85], visible=False, fixedrange=True)
    room = 0.04 * (high - low)
    figure.update_xaxes(range=[low - room, high + room], showgrid=False, zeroline=False)
    figure.update_xaxes(showline=True, linecolor=theme.HAIRLINE, ticks="outside", tickcolor=theme.HAIRLINE)
    if metric.key == "perplexity":
        kept = _ticks(low, high)
        figure.update_xaxes(tickvals=kept, ticktext=[f"× {_short(math.exp(tick))}" for tick in kept])
    return figure.update_layout(margin_l=12, margin_r=12, hovermode="closest")


def _ends(shown: Sequence[float], reach: Sequence[float]) -> tuple[float, float]:
    """From where to where the axis goes: all, or four times the median difference where a few lie far off."""
    apart = [abs(value) for value in shown if value]
    most = max(apart, default=0.0)
    limit = FAR * median(apart) if apart else 0.0
    within = [value for value in shown if abs(value) <= limit] if most > WORTH * limit else list(shown)
    if len(within) < len(shown) and len(within) > 1:
        kept = [(v, r) for v, r in zip(shown, reach, strict=True) if v in within]
        low = min(min(v - r for v, r in kept), 0.0)
        high = max(max(v + r for v, r in kept), 0.0)
        pad = 0.25 * (high - low)
        return (low - pad if min(shown) < low else low), (high + pad if max(shown) > high else high)
    low = min((v - r for v, r in zip(shown, reach, strict=True)), default=0.0)
    high = max((v + r for v, r in zip(shown, reach, strict=True)), default=0.0)
    return (low, high) if high > low else (-0.1, 0.1)


def _ticks(low: float, high: float) -> list[float]:
    """Logarithms of round factors from end to end: even steps where they have room, else the roundest of many."""
    room = (high - low) / MOST_TICKS
    for step in STEPS:
        below, above = math.ceil((math.exp(low) - 1) / step), math.floor((math.exp(high) - 1) / step)
        if above - below > 100 * MOST_TICKS:
            continue
        ticks = [math.log1p(step * count) for count in range(below, above + 1) if step * count > -1]
        if len(ticks) > 2 and all(b - a >= room for a, b in pairwise(ticks)):
            return ticks
    return _apart([math.log(times) for times in TIMES if low <= math.log(times) <= high], (high - low) / 6)


def _apart(ticks: Sequence[float], least: float) -> list[float]:
    """Those ticks that have room, the zero always."""
    kept = [0.0]
    for tick in sorted(ticks, key=abs):
        if all(abs(tick - other) >= least for other in kept):
            kept.append(tick)
    return sorted(kept)


def _axis(reference: Point, metric: Metric) -> str:
    name = "the original" if reference.method == "original" else escape(reference.series, quote=False)
    better = "lower" if metric.lower else "higher"
    if metric.key == "perplexity":
        return f"perplexity, times that of {name} ({better} is better)"
    return f"{metric.noun} less that of {name}{_unit(metric)} ({better} is better)"


def _unit(metric: Metric) -> str:
    return {" %": ", points"}.get(metric.unit, f",{metric.unit}" if metric.unit else "")


def _words(each: Difference | None, metric: Metric) -> str:
    """What a row says when it is pointed at."""
    if each is None:
        return "what the others are compared with"
    told = {"better": "better", "worse": "worse", "even": "makes no odds", "open": "cannot be told apart"}[each.told]
    on = f"on {each.count:,} {each.of}s" if each.count else ""
    return f"{told}{', paired ' if each.paired else ', not paired '}{on}".rstrip()


def _short(times: float) -> str:
    return factor(times).rstrip("0").rstrip(".") if times < 100 else factor(times)
