"""Charts of the compare page: a metric against what is left of the model, one line a method.

Pure functions: points in, a plotly figure out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import plotly.graph_objects as go

from app import theme
from app.figures.compare_axes import Aside, horizontal, standing_aside, vertical
from app.figures.compare_finding import finding
from come.report.chart import ABOVE, ceiling, logarithmic
from come.report.colors import ORIGINAL as INK
from come.report.looks import Style, style
from come.report.measured import Result, Value
from come.report.metrics import PERPLEXITY, SIZES, Metric, Size, ends
from come.report.points import Point, as_html, front, points

FAINT = 0.4
FRONT = "front"  # the name of the rings
MANY = 6  # methods, from which on the legend takes room of its own


def lines(
    drawn: Sequence[Point],
    original: Point | None,
    metric: Metric,
    size: Size,
    methods: Sequence[str],
    *,
    chance: float | None = None,
    plan: float | None = None,
    predicted: Value | None = None,
    mark_front: bool = True,
    recovered: bool | None = None,
) -> go.Figure:
    """A metric against the model's size: one line a series, all starting at the original, smaller to the right.

    A clicked point's customdata starts with the ids of its runs, joined by spaces. Points far above the others are
    arrows at the upper edge.

    Args:
        drawn: the points; means over seeds, with each seed behind them, faint.
        original: the model as it was.
        metric: the vertical axis. size: the horizontal one.
        methods: all registered names, in order: they fix the colours.
        chance: what guessing scores.
        plan: where a plan without a result yet stands on the horizontal axis.
        predicted: where on the vertical one, if that is foreseen: it is a diamond with its error then, and else a line.
        mark_front: ring the points of the Pareto front.
        recovered: the title speaks of the models before recovery, or after it, as the verdict does; None: of all.
    """
    figure = go.Figure()
    drawn, original = [as_html(point) for point in drawn], original and as_html(original)
    names = _series(drawn, methods)
    log = logarithmic(drawn, original, metric)
    top = ceiling(drawn, original, metric)
    start = None if original is None or (log and original.value <= 0) else original
    aside = standing_aside(drawn, original, names, size)
    if mark_front:
        figure.add_trace(_rings(front(drawn, metric, size, original), aside, metric))
    for rank, name in reversed(list(enumerate(names))):  # the first, CoMe, is drawn last: on top
        mine = sorted((p for p in drawn if p.series == name), key=lambda p: -p.size if size.smaller else p.size)
        look = style(mine[0].method, methods, _variant(name, mine[0].method, drawn))
        for trace in _traces(mine, look, start, metric, aside):
            figure.add_trace(trace.update(legendgroup=name, legendrank=rank))
        if off := [point for point in mine if top is not None and point.value > top]:
            figure.add_trace(_arrows(off, look, aside, (top or 0.0) / ABOVE, metric).update(legendgroup=name))
    if start is not None:
        figure.add_trace(_original(start, metric).update(legendrank=len(names)))
        figure.add_hline(y=start.value * metric.scale, line={"color": INK, "width": 1, "dash": "dot"}, layer="below")
    if chance is not None:
        figure.add_hline(
            y=chance * metric.scale,
            line={"color": INK, "width": 1, "dash": "dash"},
            annotation={"text": "chance", "font": {"size": 12, "color": INK}, "yanchor": "bottom"},
            annotation_position="bottom left",  # there only the original stands, far above
        )
    if plan is not None and predicted is not None:
        figure.add_trace(_predicted(plan, predicted, metric, top).update(legendrank=len(names) + 1))
    elif plan is not None:
        figure.add_vline(
            x=plan,
            line={"color": theme.MARK, "width": 1.5, "dash": "dot"},
            annotation={"text": "this plan", "font": {"size": 12}, "yanchor": "bottom", "xanchor": "center"},
        )
    height = 420 + (7 * len(names) if len(names) > MANY else 0)
    direction = "lower" if metric.lower else "higher"
    theme.finish(
        figure,
        finding(drawn, metric, recovered),
        x=f"{size.axis} (smaller to the right)",
        y=f"{metric.axis} ({direction} is better{', log' if log else ''}{', ▲ off the scale' if top else ''})",
        height=height,
        legend=True,
    )
    if plan is not None and predicted is None:  # its name stands above the plot, the legend above that
        figure.update_layout(margin_t=figure.layout.margin.t + 20, legend_y=1 + 20 / (height - 160))
    horizontal(figure, drawn, original, size, plan)
    vertical(figure, drawn, start, metric, log, top)
    return figure.update_layout(hovermode="closest")


def perplexity_figure(
    results: Sequence[Result],
    original: Result | None,
    titles: dict[str, str],
    against: Literal["layers", "parameters", "sparsity"] = "layers",
    plan: int | None = None,
    predicted: Value | None = None,
) -> go.Figure:
    """`lines` of perplexity. `titles` names all methods; `plan` is a plan's layers, or its parameters."""
    size = SIZES[against]
    known = points([original], PERPLEXITY, size) if original else []
    at = None if plan is None else plan / 1e6 if against == "parameters" else float(plan)
    drawn = points(results, PERPLEXITY, size)
    return lines(
        drawn,
        known[0] if known else None,
        PERPLEXITY,
        size,
        list(titles),
        plan=at,
        predicted=predicted,
        mark_front=False,
    )


def _predicted(size: float, value: Value, metric: Metric, top: float | None) -> go.Scatter:
    """A diamond with its error bar; far above the others, an arrow at the upper edge."""
    off = top is not None and value.value > top
    low, high = ends(value)
    return go.Scatter(
        x=[size],
        y=[((top or 0.0) / ABOVE if off else value.value) * metric.scale],
        mode="markers",
        name="this plan, predicted",
        marker={"symbol": "triangle-up" if off else "diamond", "size": 12, "color": theme.MARK},
        error_y=_error([value.value], [None if off else low], [None if off else high], theme.MARK, metric),
        hovertemplate=f"this plan, predicted<br>{metric.axis} {metric.say_with(value.value, low, high)}<extra></extra>",
    )


def _series(drawn: Sequence[Point], methods: Sequence[str]) -> list[str]:
    """The names of the lines: CoMe first, then in the order of the methods."""
    known = {name: place for place, name in enumerate(methods)}
    first = {point.series: point for point in drawn}.values()
    ordered = sorted(
        first, key=lambda p: (p.method != "come", known.get(p.method, len(known)), len(p.series), p.series)
    )
    return [point.series for point in ordered]


def _variant(name: str, method: str, drawn: Sequence[Point]) -> int:
    """The place of a series among those of its method; the one of the shortest name is the method as it is."""
    return sorted({p.series for p in drawn if p.method == method}, key=lambda each: (len(each), each)).index(name)


def _traces(mine: list[Point], look: Style, original: Point | None, metric: Metric, aside: Aside) -> list[go.Scatter]:
    """A series: the way from the original, its runs by seed, its means with error bars."""
    xs = [point.size + aside(point) for point in mine]
    ys = [point.value * metric.scale for point in mine]
    made = []
    if original is not None:
        made.append(
            go.Scatter(
                x=[original.size, xs[0]],
                y=[original.value * metric.scale, ys[0]],
                mode="lines",
                line={"color": look.color, "width": look.width, "dash": look.dash},
                opacity=FAINT,
                hoverinfo="skip",
                showlegend=False,
            )
        )
    seeds = [(point.size + aside(point), value) for point in mine if len(point.each) > 1 for value in point.each]
    if seeds:
        made.append(
            go.Scatter(
                x=[x for x, _ in seeds],
                y=[value * metric.scale for _, value in seeds],
                mode="markers",
                marker={"color": look.color, "symbol": look.marker, "size": 6},
                opacity=FAINT,
                unselected={"marker": {"opacity": 1}},
                showlegend=False,
                hoverinfo="skip",  # plotly would take these before the mean, which names them all
            )
        )
    made.append(
        go.Scatter(
            x=xs,
            y=ys,
            mode="lines+markers",
            name=mine[0].series,
            line={"color": look.color, "width": look.width, "dash": look.dash},
            marker={"color": look.color, "symbol": look.marker, "size": 11 if look.width > 2 else 9},
            unselected={"marker": {"opacity": 1}},
            error_y=_bars(mine, look.color, metric),
            customdata=[_told(point, metric) for point in mine],
            hovertemplate=_hover(metric),
        )
    )
    return made


def _arrows(off: Sequence[Point], look: Style, aside: Aside, at: float, metric: Metric) -> go.Scatter:
    """Points off the scale, which say where they are when they are pointed at."""
    return go.Scatter(
        x=[point.size + aside(point) for point in off],
        y=[at * metric.scale] * len(off),
        mode="markers",
        marker={"color": look.color, "symbol": "triangle-up", "size": 10},
        unselected={"marker": {"opacity": 1}},
        showlegend=False,
        customdata=[_told(point, metric) for point in off],
        hovertemplate=_hover(metric),
    )


def _told(point: Point, metric: Metric) -> list[str]:
    """What a point says of itself: its runs, and the lines of its hover label."""
    said = metric.say_with(point.value, point.low, point.high)
    return [" ".join(point.runs), point.series, _size_words(point), said, point.behind(metric)]


def _hover(metric: Metric) -> str:
    return (
        "<b>%{customdata[1]}</b><br>%{customdata[2]}"
        f"<br>{metric.title.lower() if metric.title[1:2].islower() else metric.title} <b>%{{customdata[3]}}</b>"
        "<br>%{customdata[4]}<extra></extra>"
    )


def _size_words(point: Point) -> str:
    parameters = f"{point.parameters / 1e6:,.1f} M parameters"
    if point.layers is None:
        return parameters
    return f"{point.layers} layers, {parameters}"


def _bars(mine: Sequence[Point], shade: str, metric: Metric) -> dict[str, Any]:
    return _error([p.value for p in mine], [p.low for p in mine], [p.high for p in mine], shade, metric)


def _error(
    values: Sequence[float],
    lows: Sequence[float | None],
    highs: Sequence[float | None],
    shade: str,
    metric: Metric,
) -> dict[str, Any]:
    """Error bars in plotly's words."""
    if all(low is None for low in lows):
        return {"visible": False}
    return {
        "type": "data",
        "array": [0 if high is None else (high - at) * metric.scale for at, high in zip(values, highs, strict=True)],
        "arrayminus": [0 if low is None else (at - low) * metric.scale for at, low in zip(values, lows, strict=True)],
        "color": theme.faded(shade, FAINT),  # each model's own error, wider than what a comparison is sure of
        "thickness": 1,
        "width": 3,
    }


def _original(original: Point, metric: Metric) -> go.Scatter:
    said = metric.say_with(original.value, original.low, original.high)
    return go.Scatter(
        x=[original.size],
        y=[original.value * metric.scale],
        mode="markers",
        name="original",
        marker={"symbol": "star", "size": 15, "color": INK},
        unselected={"marker": {"opacity": 1}},
        error_y=_bars([original], INK, metric),
        customdata=[[" ".join(original.runs), "original", _size_words(original), said, ""]],
        hovertemplate=_hover(metric),
    )


def _rings(best: Sequence[Point], aside: Aside, metric: Metric) -> go.Scatter:
    return go.Scatter(
        x=[point.size + aside(point) for point in best],
        y=[point.value * metric.scale for point in best],
        mode="markers",
        marker={"symbol": "circle-open", "size": 20, "color": theme.MARK, "line": {"width": 2}},
        unselected={"marker": {"opacity": 1}},
        hoverinfo="skip",
        showlegend=False,
        name=FRONT,
    )
