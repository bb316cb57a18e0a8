"""Similarity of the hidden states at the borders of the layers, as a heatmap with windows outlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

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
        tickvals=layer_ticks(layers),
        ticks="",
    )
    figure.update_yaxes(
        range=[borders - 0.5, -0.5],
        showgrid=False,
        tickvals=layer_ticks(layers),
        ticks="",
    )
    figure.update_layout(clickmode="event+select", hovermode="closest")
    return figure


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
    return [box(x - 0.5, x + 0.5, y - 0.5, y + 0.5, line=line) for x, y in ((last + 1, first), (first, last + 1))]


def box(x0: float, x1: float, y0: float, y1: float, **looks: Any) -> dict[str, Any]:
    """A rectangle in data coordinates, as plotly's shape."""
    return {"type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "xref": "x", "yref": "y", **looks}


def layer_ticks(last: int) -> list[int]:
    """Round numbers of layers, from 0 to the last, at most 17 or so."""
    step = next(step for step in (1, 2, 5, 10, 20, 50) if last / step <= 16 or step == 50)
    return list(range(0, last + 1, step))
