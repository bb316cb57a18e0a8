"""Figures of the compare page: perplexity against what is left of the model.

Pure functions: results in, a plotly figure out. A method has one colour and one marker everywhere, so that it
is told apart without colour too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import plotly.graph_objects as go

from app import theme

INK = "#858d99"  # the original: reads on white and on black
MARKERS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
FIXED = {"come": 0, "shortgpt": 1, "random": 3}  # places in the order of theme.CATEGORIES


class Measured(Protocol):
    """What a point needs: see `app.comparison.Result`."""

    name: str
    method: str
    layers: int
    parameters: int
    perplexity: float
    stderr: float | None


def style(method: str, others: Sequence[str] = ()) -> tuple[str, str]:
    """Colour and marker of a method: fixed for the first three, for more in the order of `others`."""
    place = FIXED.get(method)
    if place is None:
        rest = [other for other in others if other not in FIXED]
        free = [i for i in range(len(theme.CATEGORIES)) if i not in FIXED.values()]
        place = free[(rest.index(method) if method in rest else 0) % len(free)]
    return theme.CATEGORIES[place % len(theme.CATEGORIES)], MARKERS[place % len(MARKERS)]


def perplexity_figure(
    results: Sequence[Measured],
    original: Measured | None,
    titles: dict[str, str],
    against: Literal["layers", "parameters"] = "layers",
    plan: int | None = None,
) -> go.Figure:
    """Perplexity against what is left: one line a method, all starting at the original, smaller to the right.

    `titles` names the methods. `plan` is where a plan without a result yet stands: its layers or parameters.

    Error bars are one standard error (of the mean loss, carried to the perplexity) where it was measured.
    """
    figure = go.Figure()
    methods = sorted({result.method for result in results}, key=lambda name: (FIXED.get(name, 99), name))
    aside = _aside(results, original, methods, against)
    for method in methods:
        mine = sorted((r for r in results if r.method == method), key=lambda r: -_x(r, against))
        shade, marker = style(method, methods)
        line = [(x + aside[method], y) for x, y in _mean_line(mine, against)]
        if original is not None:
            line = [(_x(original, against), original.perplexity), *line]
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in line],
                y=[y for _, y in line],
                mode="lines",
                line={"color": shade, "width": 2},
                opacity=0.55,
                hoverinfo="skip",
                showlegend=False,
                legendgroup=method,
            )
        )
        figure.add_trace(
            go.Scatter(
                x=[_x(r, against) + aside[method] for r in mine],
                y=[r.perplexity for r in mine],
                mode="markers",
                name=titles.get(method, method),
                legendgroup=method,
                marker={"color": shade, "symbol": marker, "size": 11},
                error_y=_bars(mine, shade),
                customdata=[
                    [r.name, r.layers, r.parameters / 1e6, f" ± {r.stderr:.1f}" if r.stderr else ""] for r in mine
                ],
                hovertemplate="<b>%{customdata[0]}</b><br>%{customdata[1]} layers, "
                "%{customdata[2]:.1f} M parameters"
                "<br>perplexity %{y:.1f}%{customdata[3]}<extra></extra>",
            )
        )
    if original is not None:
        figure.add_trace(_original(original, against))
    if plan is not None:
        figure.add_vline(
            x=plan if against == "layers" else plan / 1e6,
            line={"color": theme.MARK, "width": 1.5, "dash": "dot"},
            annotation={"text": "this plan", "font": {"size": 12, "color": theme.MARK}},
        )
    return _axes(figure, results, original, titles, against, plan)


def figure_title(results: Sequence[Measured], titles: dict[str, str]) -> str:
    """The finding of `perplexity_figure`, in a few words."""
    if not results:
        return "No pruned model to show yet"
    best = min(results, key=lambda r: r.perplexity)
    methods = {r.method for r in results}
    title = titles.get(best.method, best.method)
    if len(methods) == 1:
        return (
            f"Every layer that goes raises the perplexity of {title}"
            if len({r.layers for r in results}) > 1
            else (f"{title} at {best.layers} layers: perplexity {number(best.perplexity)}")
        )
    targets = sorted({r.layers for r in results}, reverse=True)
    shared = [t for t in targets if len({r.method for r in results if r.layers == t}) > 1]
    winners = {min((r for r in results if r.layers == t), key=lambda r: r.perplexity).method for t in shared}
    if len(winners) == 1:
        winner = titles.get(winners.pop(), title)
        where = f"at {shared[0]} layers" if len(shared) == 1 else f"at every one of {len(shared)} sizes"
        return f"{winner} loses least {where}"
    if not shared:
        return "No two methods were run at the same number of layers yet"
    return "Which method loses least depends on the size"


def number(value: float) -> str:
    """A perplexity in the fewest digits that still tell: 59.6, 207, 12,345, 1.2e6."""
    if value < 100:
        return f"{value:.1f}"
    return f"{value:,.0f}" if value < 1e6 else f"{value:.1e}"


def _x(result: Measured, against: str) -> float:
    return result.layers if against == "layers" else result.parameters / 1e6


def _aside(
    results: Sequence[Measured], original: Measured | None, methods: Sequence[str], against: str
) -> dict[str, float]:
    """How far each method's points stand aside, so that error bars at the same size do not cover each other."""
    xs = [_x(point, against) for point in [*results, *([original] if original else [])]]
    step = 0.012 * (max(xs) - min(xs)) if xs else 0.0
    return {method: (place - (len(methods) - 1) / 2) * step for place, method in enumerate(methods)}


def _mean_line(results: Sequence[Measured], against: str) -> list[tuple[float, float]]:
    """One point a size: several runs of a method at the same size are joined at their mean."""
    sizes = dict.fromkeys(_x(r, against) for r in results)
    mean = {}
    for size in sizes:
        values = [r.perplexity for r in results if _x(r, against) == size]
        mean[size] = sum(values) / len(values)
    return list(mean.items())


def _bars(results: Sequence[Measured], shade: str) -> dict:
    if not any(r.stderr for r in results):
        return {"visible": False}
    return {
        "type": "data",
        "array": [r.stderr or 0 for r in results],
        "color": shade,
        "thickness": 1.5,
        "width": 5,
    }


def _original(original: Measured, against: str) -> go.Scatter:
    return go.Scatter(
        x=[_x(original, against)],
        y=[original.perplexity],
        mode="markers",
        name="original",
        marker={"symbol": "star", "size": 15, "color": INK},
        error_y=_bars([original], INK),
        hovertemplate=f"<b>original</b><br>{original.layers} layers, "
        f"{original.parameters / 1e6:.1f} M parameters"
        "<br>perplexity %{y:.1f}<extra></extra>",
    )


def _axes(
    figure: go.Figure,
    results: Sequence[Measured],
    original: Measured | None,
    titles: dict[str, str],
    against: str,
    plan: int | None,
) -> go.Figure:
    points = [*results, *([original] if original else [])]
    values = [point.perplexity for point in points] or [1.0]
    wide = max(values) / max(min(values), 1e-9) > 8
    if original:
        figure.add_hline(y=original.perplexity, line={"color": INK, "width": 1, "dash": "dot"}, layer="below")
    unit = "layers" if against == "layers" else "parameters in millions"
    theme.finish(
        figure,
        figure_title(results, titles),
        x=f"{unit} (smaller to the right)",
        y=f"perplexity (lower is better{', log' if wide else ''})",
        height=420,
        legend=True,
    )
    xs = [_x(point, against) for point in points]
    if plan is not None:
        xs.append(plan if against == "layers" else plan / 1e6)
    high, low = max(xs, default=1.0), min(xs, default=0.0)
    pad = max((high - low) * 0.08, 0.5)
    figure.update_xaxes(range=[high + pad, low - pad], showgrid=False)
    if against == "layers":
        figure.update_xaxes(dtick=max(1, round((high - low) / 8)), tick0=high)
    figure.update_yaxes(type="log" if wide else "linear")
    if wide:
        ticks = [base * 10**power for power in range(13) for base in (1, 2, 5)]
        shown = [tick for tick in ticks if min(values) / 2.5 <= tick <= max(values) * 2.5]
        figure.update_yaxes(tickvals=shown, ticktext=[f"{tick:,}" for tick in shown])
    return figure.update_layout(hovermode="closest")
