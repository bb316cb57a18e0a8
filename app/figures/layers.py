"""Figures of whole layers: their similarity, their influence, what merging would keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app import theme

_INK = "#10151d"  # on the bright cells near the diagonal, in either theme

KINDS = {
    "cosine": ("Cosine", "mean cos of the angle between the hidden states"),
    "angular": ("Angular", "mean angular distance divided by π"),
    "cka": ("CKA", "linear centred kernel alignment"),
}


def similarity(
    matrix: np.ndarray,
    *,
    kind: str = "cosine",
    best: tuple[int, int] | None = None,
    selected: tuple[int, int] | None = None,
    planned: Sequence[tuple[int, int]] = (),
) -> go.Figure:
    """How alike the hidden states at the layers' borders are.

    Row i and column j compare H^(i), the state that enters layer i, with H^(j): the layers between them,
    i .. j - 1, are the window of that cell. A transparent scatter on top carries hover and clicks; its
    points' customdata is [first layer, last layer, value].

    Args:
        matrix: (layers + 1, layers + 1).
        kind: "cosine", "angular" or "cka".
        best: the window (first, last) to outline as the best.
        selected: the window that is open.
        planned: windows of the plan.
    """
    borders = len(matrix)
    layers = borders - 1
    levels, ticks, labels = _levels(matrix, kind)
    figure = go.Figure(
        go.Heatmap(
            z=levels,
            zmin=0,
            zmax=255,
            colorscale=theme.sequential(),
            hoverinfo="skip",
            xgap=1 if borders < 60 else 0,
            ygap=1 if borders < 60 else 0,
            colorbar={
                "title": {"text": KINDS[kind][0], "side": "top", "font": {"size": 11}},
                "tickvals": ticks,
                "ticktext": labels,
                "thickness": 10,
                "outlinewidth": 0,
                "tickfont": {"size": 11},
                "len": 0.8,
                "y": 1,
                "yanchor": "top",
            },
        )
    )
    rows, columns = np.indices(matrix.shape)
    low, high = np.minimum(rows, columns).ravel(), np.maximum(rows, columns).ravel() - 1
    names = [_between(first, last) for first, last in zip(low, high, strict=True)]
    figure.add_trace(
        go.Scatter(
            x=columns.ravel(),
            y=rows.ravel(),
            mode="markers",
            marker={"size": 16, "opacity": 0, "symbol": "square"},
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            customdata=np.stack([low, high, matrix.ravel()], axis=1),
            text=names,
            hovertemplate="H<sup>(%{y})</sup> and H<sup>(%{x})</sup>: %{text}<br>"
            + KINDS[kind][0]
            + " %{customdata[2]:.4f}<extra></extra>",
            showlegend=False,
        )
    )
    shapes = [shape for window in planned for shape in _outline(window, _INK, 1.5, dash="dot")]
    if best is not None:
        shapes += _outline(best, theme.MARK, 2.5)
    if selected is not None and selected != best:
        shapes += _outline(selected, _INK, 2.5)
    figure.update_layout(shapes=shapes)  # at once: plotly looks at all that are there for each that is added
    theme.finish(
        figure,
        _similarity_finding(matrix, kind, best),
        x="Hidden state H⁽ʲ⁾ entering layer j (the last one leaves the model)",
        y="Hidden state H⁽ⁱ⁾",
        height=500,
        colorbar=True,
    )
    figure.update_xaxes(
        range=[-0.5, borders - 0.5],
        showgrid=False,
        tickvals=_ticks(layers),
        ticks="",
    )
    figure.update_yaxes(
        range=[borders - 0.5, -0.5],
        showgrid=False,
        tickvals=_ticks(layers),
        ticks="",
    )
    figure.update_layout(clickmode="event+select", hovermode="closest")
    return figure


def influence(
    block: np.ndarray,
    skip: np.ndarray,
    *,
    span: int = 2,
    block_halves: np.ndarray | None = None,
    skip_halves: np.ndarray | None = None,
    planned: Sequence[tuple[int, int]] = (),
    selected: tuple[int, int] | None = None,
    log: bool = False,
) -> go.Figure:
    """The layers as serial tiles, block influence and skip block influence under them.

    Args:
        block: (layers,) BI of each layer.
        skip: (layers - span + 1,) SBI of each window of ``span`` layers.
        span: layers a window.
        block_halves: (2, layers) BI over each half of the text, drawn as ticks; None: not drawn.
        skip_halves: (2, layers - span + 1) the same for SBI.
        planned: windows of the plan, joined in the tile row.
        selected: the window that is open, outlined in the tile row.
        log: points on logarithmic axes instead of bars.
    """
    layers = len(block)
    colors = [theme.layer_color(layer, layers) for layer in range(layers)]
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, row_heights=[0.16, 0.42, 0.42], vertical_spacing=0.07)
    _add_tiles(figure, layers, colors, planned, selected)
    middle = np.arange(len(skip)) + (span - 1) / 2
    best = int(skip.argmin())
    skip_colors = [theme.MARK if window == best else theme.ACCENT for window in range(len(skip))]
    ends = np.stack([np.arange(len(skip)), np.arange(len(skip)) + span - 1], axis=1)
    rows = (
        (np.arange(layers), block, colors, None, "Layer %{x}: BI = %{y:.4f}"),
        (middle, skip, skip_colors, ends, "Layers %{customdata[0]} to %{customdata[1]}: SBI = %{y:.4f}"),
    )
    for row, (places, values, row_colors, data, hover) in enumerate(rows, start=2):
        common = {
            "x": places,
            "y": values,
            "customdata": data,
            "hovertemplate": f"{hover}<extra></extra>",
            "showlegend": False,
        }
        if log:  # a bar's length means nothing on an axis without a zero
            marks = go.Scatter(mode="markers", marker={"color": row_colors, "size": 10}, **common)
        else:
            marks = go.Bar(width=0.72, marker={"color": row_colors, "line": {"width": 0}}, **common)
        figure.add_trace(marks, row=row, col=1)
    for halves, places, row in ((block_halves, np.arange(layers), 2), (skip_halves, middle, 3)):
        for half in () if halves is None else halves:
            figure.add_trace(_half_ticks(places, half), row=row, col=1)
    theme.finish(
        figure,
        f"Layers {best} to {best + span - 1} change the hidden state least: the cheapest "
        + ("pair to merge" if span == 2 else "window to merge"),
        height=460,
    )
    figure.update_xaxes(range=[-0.6, layers - 0.4], showgrid=False, tickvals=_ticks(layers - 1))
    figure.update_xaxes(title_text="Layer", row=3, col=1)
    figure.update_layout(margin={"l": 62, "b": 54})
    for name, row in (("BI", 2), ("SBI", 3)):
        figure.update_yaxes(title_text=name, nticks=4, row=row, col=1)
        if log:
            figure.update_yaxes(type="log", dtick="D2", row=row, col=1)
        else:
            figure.update_yaxes(rangemode="tozero", row=row, col=1)
    figure.update_yaxes(visible=False, range=[-0.1, 1.25], row=1, col=1)
    figure.update_layout(hovermode="closest")
    return figure


def puzzle(
    first: int,
    ratio: Sequence[float],
    kv_groups: Sequence[int],
    channels: Sequence[int],
    layers: int,
) -> go.Figure:
    """What one merge keeps: the new layer's KV groups and FFN channels, coloured by where they come from.

    Args:
        first: the window's first layer.
        ratio: share a source layer.
        kv_groups: KV groups kept from each source layer.
        channels: FFN channels kept from each source layer.
        layers: how many layers the model has.
    """
    figure = go.Figure()
    rows = ["FFN channels", "KV groups"]
    for offset, share in enumerate(ratio):
        layer = first + offset
        counts = [channels[offset], kv_groups[offset]]
        totals = [max(sum(channels), 1), max(sum(kv_groups), 1)]
        figure.add_trace(
            go.Bar(
                y=rows,
                x=[count / total for count, total in zip(counts, totals, strict=True)],
                orientation="h",
                name=f"layer {layer} ({share:.0%})",
                marker={"color": theme.layer_color(layer, layers), "line": {"width": 0}},
                text=[f"{count:,}" if count else "" for count in counts],
                textposition="inside",
                insidetextanchor="middle",
                textfont={"color": theme.ink_on(theme.layer_color(layer, layers)), "size": 13},
                customdata=list(zip(counts, totals, strict=True)),
                hovertemplate=f"layer {layer}: %{{customdata[0]:,d}} of %{{customdata[1]:,d}} %{{y}}<extra></extra>",
            )
        )
    largest = int(np.argmax(ratio))
    theme.finish(
        figure,
        f"Layer {first + largest} would give {ratio[largest]:.0%} of the new layer",
        x="Share of the new layer",
        height=210,
        legend=True,
    )
    figure.update_layout(barmode="stack", bargap=0.3, legend={"traceorder": "normal"})
    figure.update_xaxes(range=[0, 1], tickformat=".0%", showgrid=False)
    return figure


# --- inside --------------------------------------------------------------------------------------------


def _levels(matrix: np.ndarray, kind: str) -> tuple[np.ndarray, list[float], list[str]]:
    """Colour levels 0..255, brighter for more alike, and the colour bar's ticks in true values."""
    low, high = float(matrix.min()), float(matrix.max())
    span = (high - low) or 1.0
    position = (matrix - low) / span
    if kind == "angular":
        position = 1 - position
    marks = np.linspace(low, high, 5)
    at = (marks - low) / span
    ticks = [float(255 * (1 - place if kind == "angular" else place)) for place in at]
    return np.round(position * 255).astype(np.uint8), ticks, [f"{mark:.2f}" for mark in marks]


def _similarity_finding(matrix: np.ndarray, kind: str, best: tuple[int, int] | None) -> str:
    if best is None:
        return f"{KINDS[kind][0]} between the states at the layers' borders"
    first, last = best
    value = matrix[first, last + 1]
    word = "distance" if kind == "angular" else "similarity"
    name = "CKA" if kind == "cka" else f"{kind} {word}"
    return f"The state hardly changes from layer {first} to {last}: {name} {value:.3f}"


def _between(first: int, last: int) -> str:
    if last < first:
        return "the same state"
    return f"across layer {first}" if first == last else f"across layers {first} to {last}"


def _outline(window: tuple[int, int], color: str, width: float, dash: str = "solid") -> list[dict[str, Any]]:
    """Marks of a window's cell, in both halves of the symmetric matrix."""
    first, last = window
    line = {"color": color, "width": width, "dash": dash}
    return [_box(x - 0.5, x + 0.5, y - 0.5, y + 0.5, line=line) for x, y in ((last + 1, first), (first, last + 1))]


def _box(x0: float, x1: float, y0: float, y1: float, **looks: Any) -> dict[str, Any]:
    return {"type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "xref": "x", "yref": "y", **looks}


def _add_tiles(
    figure: go.Figure,
    layers: int,
    colors: list[str],
    planned: Sequence[tuple[int, int]],
    selected: tuple[int, int] | None,
) -> None:
    """A row of tiles on one thread; windows of the plan stand on a common base."""
    figure.add_trace(
        go.Bar(
            x=np.arange(layers),
            y=np.ones(layers),
            width=0.82,
            marker={"color": colors, "line": {"width": 0}, "cornerradius": 3},
            hovertemplate="Layer %{x}<extra></extra>",
            showlegend=False,
        ),
        row=1,
        col=1,
    )
    thread = _box(-0.6, layers - 0.4, 0.5, 0.5, line={"color": theme.HAIRLINE, "width": 3}, layer="below")
    shapes = [thread | {"type": "line"}]
    shapes += [
        _box(first - 0.41, last + 0.41, 1.12, 1.22, fillcolor=theme.ACCENT, line={"width": 0})
        for first, last in planned
    ]
    if selected is not None:
        shapes.append(_box(selected[0] - 0.5, selected[1] + 0.5, -0.08, 1.08, line={"color": theme.MARK, "width": 2}))
    figure.update_layout(shapes=shapes)


def _half_ticks(places: np.ndarray, values: np.ndarray) -> go.Scatter:
    return go.Scatter(
        x=places,
        y=values,
        mode="markers",
        marker={"symbol": "line-ew", "size": 9, "line": {"width": 1.5, "color": "rgba(110,118,130,0.9)"}},
        hovertemplate="half of the text: %{y:.4f}<extra></extra>",
        showlegend=False,
    )


def _ticks(last: int) -> list[int]:
    step = next(step for step in (1, 2, 5, 10, 20, 50) if last / step <= 16 or step == 50)
    return list(range(0, last + 1, step))
