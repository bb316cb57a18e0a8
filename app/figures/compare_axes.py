"""The axes of the compare page's figures: which scale, which ticks, and where points stand."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import median

import plotly.graph_objects as go

from come.report.metrics import Metric, Size
from come.report.points import Point

ROOM = 4.0  # times the median of the size at which that is largest: so far up goes an axis that cannot show all
FAR = 5.0  # times that: what lies within is worth a longer axis
ABOVE = 1.2  # times its last tick: there stand the arrows of what is off it, and once more above that it ends
TICKS = [base * 10.0**power for power in range(-4, 300) for base in (1, 2, 5)]


def logarithmic(drawn: Sequence[Point], original: Point | None, metric: Metric) -> bool:
    """Whether the metric is one for a logarithmic axis, and its values are far apart."""
    held = [point.value for point in [*drawn, *([original] if original else [])] if point.value > 0]
    return metric.log and bool(held) and max(held) / min(held) > 8 and all(point.value > 0 for point in drawn)


def ceiling(drawn: Sequence[Point], original: Point | None, metric: Metric) -> float | None:
    """Where a logarithmic axis ends, so that a few models that fell to pieces do not squeeze all the others together.

    Returns:
        The highest value that is drawn where it is; None where the axis shows everything.
    """
    if not (metric.lower and logarithmic(drawn, original, metric)):
        return None
    by_size: dict[int | None, list[float]] = {}
    for point in drawn:
        by_size.setdefault(point.layers, []).append(point.value)
    limit = ROOM * max(median(values) for values in by_size.values())
    if max(point.value for point in drawn) <= FAR * limit:
        return None
    return next(tick for tick in TICKS if tick >= limit) * ABOVE**2


def lines_aside(drawn: Sequence[Point], original: Point | None, names: Sequence[str], size: Size) -> dict[str, float]:
    """How far each line's points stand aside, so that error bars at the same size do not cover each other."""
    sizes = sorted({point.size for point in [*drawn, *([original] if original else [])]})
    if len(sizes) < 2 or len(names) < 2:
        return dict.fromkeys(names, 0.0)
    span = sizes[-1] - sizes[0]
    nearest = min(after - before for before, after in pairwise(sizes))
    room = min(0.012 * span * (len(names) - 1), 0.25 * nearest if size.key == "layers" else 0.03 * span)
    step = (-room if size.smaller else room) / (len(names) - 1)
    return {name: (place - (len(names) - 1) / 2) * step for place, name in enumerate(names)}


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
