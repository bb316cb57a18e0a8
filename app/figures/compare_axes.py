"""How the compare page's charts are laid out: scales, ticks, where points stand."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import plotly.graph_objects as go

from come.report.chart import TICKS
from come.report.metrics import Metric, Size
from come.report.points import Point

Aside = Callable[[Point], float]  # how far a point stands aside


def standing_aside(drawn: Sequence[Point], original: Point | None, names: Sequence[str], size: Size) -> Aside:
    """How far a point stands aside, so that error bars of models as deep do not cover each other.

    Only layers are few and whole: on another axis it would be taken for another size.
    """
    sizes = sorted({point.size for point in [*drawn, *([original] if original else [])]})
    if len(sizes) < 2 or len(names) < 2 or size.key != "layers":
        return lambda point: 0.0
    span = sizes[-1] - sizes[0]
    nearest = min(after - before for before, after in pairwise(sizes))
    room = min(0.024 * span * (len(names) - 1), 0.25 * nearest)
    step = (-room if size.smaller else room) / (len(names) - 1)
    series = {point.layers: {other.series for other in drawn if other.layers == point.layers} for point in drawn}
    rows = {layers: [name for name in names if name in found] for layers, found in series.items()}

    def aside(point: Point) -> float:
        row = rows[point.layers]
        return (row.index(point.series) - (len(row) - 1) / 2) * step

    return aside


def horizontal(
    figure: go.Figure, drawn: Sequence[Point], original: Point | None, size: Size, plan: float | None
) -> None:
    """The size: smaller models to the right; a tick a target, where they are few."""
    sizes = [point.size for point in [*drawn, *([original] if original else [])]]
    low, high = min([*sizes, *([plan] if plan is not None else [])], default=0.0), max([*sizes, plan or 0.0])
    pad = max((high - low) * 0.06, 0.5)  # room for what stands aside, and for rings
    left, right = (high + pad, low - pad) if size.smaller else (low - pad, high + pad)
    figure.update_xaxes(range=[left, right], showgrid=False)
    if size.key == "layers":
        whole = sorted({round(at) for at in sizes})
        if len(whole) <= 12:
            figure.update_xaxes(tickvals=whole)
        else:
            figure.update_xaxes(dtick=max(1, round((high - low) / 8)), tick0=high)


def vertical(
    figure: go.Figure,
    drawn: Sequence[Point],
    original: Point | None,
    metric: Metric,
    log: bool,
    top: float | None = None,
) -> None:
    """The metric, with its unit; on a logarithmic axis with round ticks, up to `top` if it ends there."""
    figure.update_yaxes(type="log" if log else "linear", ticksuffix=" %" if metric.unit == " %" else "")
    if not log:
        return
    known = [original] if original else []
    held = [point.value for point in [*drawn, *known]]
    shown = [tick for tick in TICKS if min(held) / 2.5 <= tick <= (top or max(held) * 2.5)]
    if len(shown) > 12:
        shown = [tick for tick in shown if f"{tick:e}".startswith("1")]
    if top is not None:
        lowest = min(point.value if point.low is None or point.low <= 0 else point.low for point in [*drawn, *known])
        figure.update_yaxes(range=[math.log10(lowest / 1.15), math.log10(top)])
    figure.update_yaxes(tickvals=shown, ticktext=[f"{tick:,.4g}" if tick < 1e4 else f"{tick:,.0f}" for tick in shown])
