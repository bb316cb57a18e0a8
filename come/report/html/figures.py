"""A report's charts of several runs: a metric against the size, and paired differences."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import come
from come.pruning.registry import PAPER
from come.report import paired
from come.report.chart import ABOVE, Chart, ceiling, logarithmic
from come.report.colors import MARK, ORIGINAL
from come.report.html.axes import Figure, error_bars, laid_out, round_marks
from come.report.looks import Style, style
from come.report.metrics import Metric, Size
from come.report.paired import Difference
from come.report.points import Point, as_html, front

ROW = 44  # pixels of a row of the paired differences
FAINT = 0.4
TIMES = (1, 1.02, 1.05, 1.1, 1.2, 1.3, 1.4, 1.6, 1.8, 2, 3, 5, 10, 20, 50, 100, 1e3, 1e4, 1e6, 1e9)


def lines(shown: Chart) -> Figure:
    """A metric against the model's size: one line a series, from the original on, smaller models to the right."""
    metric, size = shown.metric, shown.size
    drawn, original = [as_html(point) for point in shown.points], shown.original and as_html(shown.original)
    log, top = logarithmic(drawn, original, metric), ceiling(drawn, original, metric)
    start = None if original is None or (log and original.value <= 0) else original
    data: list[dict[str, Any]] = [_rings(front(drawn, metric, size, original), metric)]
    for mine, look in _by_series(drawn, size):
        if start is not None:
            way = [start, mine[0]]
            data.append(_line(way, look, metric) | {"mode": "lines", "hoverinfo": "skip", "opacity": FAINT})
        data.append(
            _line(mine, look, metric, top) | {"name": mine[0].series, "showlegend": True, **_hover(mine, metric)}
        )
        if off := [point for point in mine if top is not None and point.value > top]:
            arrows = {"mode": "markers", "marker": {"symbol": "triangle-up", "size": 11, "color": look.color}}
            at = (top or 0.0) / ABOVE * metric.scale
            data.append(_line(off, look, metric, top) | arrows | {"y": [at] * len(off), **_hover(off, metric)})
    if start is not None:
        star = {"symbol": "star", "size": 15, "color": ORIGINAL}
        whole = _line([start], Style(ORIGINAL, "star", "solid"), metric) | {"mode": "markers", "marker": star}
        data.append(whole | {"name": "original", "showlegend": True} | _hover([start], metric))
    shapes = [_level(start.value * metric.scale, "dot")] if start else []
    shapes += [_level(shown.chance * metric.scale, "dash")] if shown.chance is not None else []
    figure = laid_out(data, 340, f"{size.axis} (smaller to the right)", metric.axis, shapes=shapes)
    known = [*drawn, *([start] if start else [])]
    figure["layout"]["xaxis"] |= _sizes(known, size.smaller, size.key == "layers")
    figure["layout"]["yaxis"] |= _values(known, metric, log, top)
    return figure


def differences(drawn: Sequence[Point], found: Sequence[Difference | None], reference: Point, metric: Metric) -> Figure:
    """A row a point, the best on top: its difference from the reference with its 95% interval, hollow where not sure.

    Args:
        drawn: the points of one size, ranked.
        found: how each differs from the reference; None for the reference itself.
        reference: what stands at the line.
        metric: one that can differ.
    """
    times = metric.key == "perplexity"
    data, words = [], []
    for row, (point, each) in enumerate(zip(map(as_html, drawn), found, strict=True)):
        look = style(point.method, list(come.methods()))
        value, reach = (0.0, 0.0) if each is None else (each.value, each.reach or 0.0)
        at, low, high = (_moved(end, times, metric) for end in (value, value - reach, value + reach))
        told = metric.say(point.value) if each is None else paired.say(each, metric)
        sure = each is None or each.told in ("better", "worse")
        data.append(
            {
                "type": "scatter",
                "x": [at],
                "y": [row],
                "mode": "markers",
                "marker": {
                    "color": look.color,
                    "symbol": look.marker if sure else f"{look.marker.removesuffix('-open')}-open",
                    "size": 12,
                    "line": {"width": 2, "color": look.color},
                },
                "error_x": error_bars([high - at], [at - low], look.color, 2),
                "text": [f"<b>{point.series}</b><br>{told}"],
                "hovertemplate": "%{text}<extra></extra>",
                "showlegend": False,
            }
        )
        # Of text on paper plotly counts rows from above: each stands over its own.
        words += [_aside(0, "left", row, f"{row + 1}. <b>{point.series}</b>"), _aside(1, "right", row, told)]
    zero = _moved(0.0, times, metric)
    line = {"type": "line", "x0": zero, "x1": zero, "layer": "below", "line": {"color": ORIGINAL, "width": 1.5}}
    shapes = [{**line, "y0": row - 0.2, "y1": row + 0.3} for row in range(len(drawn))]  # not through the names
    figure = laid_out(data, len(drawn) * ROW + 80, _difference_axis(as_html(reference), metric), "", shapes=shapes)
    figure["layout"]["annotations"] = words
    figure["layout"]["yaxis"] |= {"range": [len(drawn) - 0.6, -0.85], "visible": False, "fixedrange": True}
    if times:
        figure["layout"]["xaxis"] |= _times(data)
    return figure


# --- parts -----------------------------------------------------------------------------------------------


def _by_series(drawn: Sequence[Point], size: Size) -> list[tuple[list[Point], Style]]:
    """The points of each line from large to small, with its look: CoMe first, then in the order of the methods."""
    methods = list(come.methods())
    found: dict[str, list[Point]] = {}
    for point in sorted(drawn, key=lambda each: -each.size if size.smaller else each.size):
        found.setdefault(point.series, []).append(point)
    known = {name: place for place, name in enumerate(methods)}
    names = sorted(found, key=lambda name: (known.get(found[name][0].method, len(known)), len(name), name))
    lines = []
    for name in sorted(names, key=lambda name: found[name][0].method != PAPER):
        alike = [other for other in names if found[other][0].method == found[name][0].method]
        lines.append((found[name], style(found[name][0].method, methods, alike.index(name))))
    return lines


def _line(mine: Sequence[Point], look: Style, metric: Metric, top: float | None = None) -> dict[str, Any]:
    """Points with their error bars, but for those that lie above `top`, and a line through them."""
    ends = [
        (0.0, 0.0)
        if point.low is None or point.high is None or (top is not None and point.value > top)
        else ((point.high - point.value) * metric.scale, (point.value - point.low) * metric.scale)
        for point in mine
    ]
    return {
        "type": "scatter",
        "x": [point.size for point in mine],
        "y": [point.value * metric.scale for point in mine],
        "mode": "lines+markers",
        "line": {"color": look.color, "width": look.width, "dash": look.dash},
        "marker": {"color": look.color, "symbol": look.marker, "size": 9},
        "error_y": error_bars([high for high, _ in ends], [low for _, low in ends], look.color),
        "showlegend": False,
    }


def _seeds(mine: Sequence[Point], look: Style, metric: Metric) -> dict[str, Any]:
    """The runs behind the means over seeds, faint."""
    each = [(point.size, value * metric.scale) for point in mine if len(point.each) > 1 for value in point.each]
    return {
        "type": "scatter",
        "x": [size for size, _ in each],
        "y": [value for _, value in each],
        "mode": "markers",
        "marker": {"color": look.color, "symbol": look.marker, "size": 6},
        "opacity": FAINT,
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _rings(best: Sequence[Point], metric: Metric) -> dict[str, Any]:
    """Round the points of the Pareto front."""
    return {
        "type": "scatter",
        "x": [point.size for point in best],
        "y": [point.value * metric.scale for point in best],
        "mode": "markers",
        "marker": {"symbol": "circle-open", "size": 20, "color": MARK, "line": {"width": 2}},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _hover(mine: Sequence[Point], metric: Metric) -> dict[str, Any]:
    """What each point says when it is pointed at."""
    told = [
        f"<b>{point.series}</b><br>{_size(point)}<br>{metric.noun} "
        f"<b>{metric.say_with(point.value, point.low, point.high)}</b><br>{point.behind(metric)}"
        for point in mine
    ]
    return {"text": told, "hovertemplate": "%{text}<extra></extra>"}


def _size(point: Point) -> str:
    parameters = f"{point.parameters / 1e6:,.1f} M parameters"
    return parameters if point.layers is None else f"{point.layers} layers, {parameters}"


def _level(y: float, dash: str) -> dict[str, Any]:
    line = {"color": ORIGINAL, "width": 1, "dash": dash}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line, "layer": "below"}


def _aside(x: int, anchor: str, row: int, text: str) -> dict[str, Any]:
    place = {"x": x, "xref": "paper", "xanchor": anchor, "y": row, "yshift": 17}
    return {**place, "text": text, "showarrow": False, "font": {"size": 13}}


def _moved(value: float, times: bool, metric: Metric) -> float:
    """A difference in the unit of the axis: of perplexities the factor."""
    return paired.factor_of(value) if times else value * metric.scale


def _times(data: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A logarithmic axis of factors, with room at its ends."""
    low = min(trace["x"][0] - trace["error_x"].get("arrayminus", [0.0])[0] for trace in data)
    high = max(trace["x"][0] + trace["error_x"].get("array", [0.0])[0] for trace in data)
    room = 0.05 * math.log10(max(high / low, 1.01))
    ends = [math.log10(low) - room, math.log10(high) + room]
    ticks = [each for times in TIMES for each in {times, 1 / times} if ends[0] <= math.log10(each) <= ends[1]]
    kept: list[float] = []
    for tick in sorted(ticks, key=lambda each: abs(math.log(each))):  # the line first; those that have room
        if all(abs(math.log10(tick / other)) > (ends[1] - ends[0]) / 8 for other in kept):
            kept.append(tick)
    labels = [f"× {tick:,.0f}" if tick >= 100 else f"× {tick:.3g}" for tick in kept]
    return {"type": "log", "range": ends, "tickvals": kept, "ticktext": labels, "showgrid": True}


def _difference_axis(reference: Point, metric: Metric) -> str:
    better = "lower" if metric.lower else "higher"
    if metric.key == "perplexity":
        return f"perplexity, times that of {reference.series} ({better} is better)"
    unit = {" %": ", points"}.get(metric.unit, f",{metric.unit}" if metric.unit else "")
    return f"{metric.noun} less that of {reference.series}{unit} ({better} is better)"


def _sizes(known: Sequence[Point], smaller: bool, whole: bool) -> dict[str, Any]:
    """The horizontal axis: smaller models to the right, with room at both ends."""
    low, high = min((p.size for p in known), default=0.0), max((p.size for p in known), default=1.0)
    room = max((high - low) * 0.06, 0.5)
    ends = [high + room, low - room] if smaller else [low - room, high + room]
    ticks = sorted({point.size for point in known})
    return {"range": ends, "showgrid": False, **({"tickvals": ticks} if whole and len(ticks) <= 12 else {})}


def _values(known: Sequence[Point], metric: Metric, log: bool, top: float | None) -> dict[str, Any]:
    """The vertical axis; a logarithmic one has round marks, up to `top` if it ends there."""
    if not log:
        return {"ticksuffix": " %" if metric.unit == " %" else ""}
    lows = [point.low if point.low and point.low > 0 else point.value for point in known]
    high = top or max(point.value for point in known)
    axis = round_marks(min(lows), high)
    return axis if top is None else axis | {"range": [math.log10(min(lows) / 1.15), math.log10(top)]}
