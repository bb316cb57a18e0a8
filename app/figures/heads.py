"""Charts of attention heads and of the KV groups they share: arrays in, plotly figures out."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from app import theme

_LEVELS = 255


def heads(values: np.ndarray, kv_heads: int, selected: int | None = None) -> go.Figure:
    """Sensitivity of every attention head, relative to the mean of its layer.

    Args:
        values: (layers, heads) head sensitivities.
        kv_heads: how many KV heads a layer has; dividers mark the groups that are kept or dropped together.
        selected: a layer to mark.
    """
    layers, count = values.shape
    relative = values / np.maximum(values.mean(axis=1, keepdims=True), 1e-30)
    top, bottom = float(relative.max()), float(relative.min())
    middle = (top + bottom) / 2
    layer, head = np.unravel_index(int(relative.argmax()), relative.shape)
    size = count // max(kv_heads, 1)
    figure = go.Figure(
        go.Heatmap(
            z=np.round((relative - bottom) / max(top - bottom, 1e-30) * _LEVELS).astype(np.uint8),
            zmin=0,
            zmax=_LEVELS,
            colorscale=theme.sequential(),
            hoverinfo="skip",
            colorbar={
                "title": {"text": "× layer<br>mean", "side": "top", "font": {"size": 11}},
                "tickvals": [0, _LEVELS / 2, _LEVELS],
                "ticktext": [f"{mark:.2f}" for mark in (bottom, middle, top)],
                "thickness": 10,
                "outlinewidth": 0,
                "tickfont": {"size": 11},
            },
        )
    )
    rows, columns = np.indices(relative.shape)
    figure.add_trace(
        go.Scatter(
            x=columns.ravel(),
            y=rows.ravel(),
            mode="markers",
            marker={"size": 14, "opacity": 0, "symbol": "square"},
            customdata=np.stack(
                [rows.ravel(), columns.ravel(), columns.ravel() // size, values.ravel(), relative.ravel()],
                axis=1,
            ),
            hovertemplate="Layer %{customdata[0]:d}, head %{customdata[1]:d}, KV group %{customdata[2]:d}<br>"
            "S = %{customdata[3]:.3g}, %{customdata[4]:.2f} × the layer's mean<extra></extra>",
            showlegend=False,
        )
    )
    if size > 1:
        edges = [edge - 0.5 for edge in range(size, count, size)]
        theme.dividers(figure, edges, layers, opacity=0.8, width=2)
    if selected is not None:
        theme.outline_row(figure, selected, -0.5, count - 0.5)
    theme.finish(
        figure,
        f"Head {head} of layer {layer} stands out: {top:.1f} × its layer's mean",
        x=f"Head (lines part the {kv_heads} KV groups)" if size > 1 else "Head",
        y="Layer",
        height=max(300, min(16 * layers + 120, 900)),
        colorbar=True,
    )
    figure.update_yaxes(range=[layers - 0.5, -0.5], showgrid=False)
    figure.update_xaxes(range=[-0.5, count - 0.5], showgrid=False, dtick=1 if count <= 16 else None)
    figure.update_layout(clickmode="event+select", hovermode="closest")
    return figure


def layer_heads(
    head: np.ndarray, kv: np.ndarray, *, layer: int, layers: int, kept_groups: list[int] | None = None
) -> go.Figure:
    """Heads of one layer as bars, grouped by the KV head they share; the group's mean as a line.

    Args:
        head: (heads,) sensitivities.
        kv: (kv_heads,) sensitivities of the KV groups.
        layer: which layer it is.
        layers: how many layers the model has.
        kept_groups: the KV groups the plan keeps; None: no plan touches the layer.
    """
    size = len(head) // max(len(kv), 1)
    group = np.arange(len(head)) // size
    is_kept = np.isin(group, kept_groups) if kept_groups is not None else np.ones(len(head), dtype=bool)
    figure = go.Figure(
        go.Bar(
            x=np.arange(len(head)),
            y=head,
            marker={
                "color": [theme.layer_color(layer, layers) if keep else theme.QUIET for keep in is_kept],
                "pattern": {"shape": ["" if keep else "/" for keep in is_kept], "size": 5, "solidity": 0.3},
            },
            customdata=np.stack([group, is_kept], axis=1).astype(np.int64),
            hovertemplate="Head %{x}, KV group %{customdata[0]}: S = %{y:.3g}<extra></extra>",
            showlegend=False,
        )
    )
    means = [
        {
            "type": "line",
            "x0": index * size - 0.45,
            "x1": (index + 1) * size - 0.55,
            "y0": float(mean),
            "y1": float(mean),
            "line": {"color": theme.MARK, "width": 2},
        }
        for index, mean in enumerate(kv)
    ]
    figure.update_layout(shapes=means)  # at once: plotly looks at all that are there for each that is added
    theme.finish(
        figure,
        _most_sensitive(kv, layer),
        x=f"Head ({size} share one KV head)" if size > 1 else "Head (each with its own KV head)",
        y="Sensitivity S",
        height=300,
    )
    figure.update_xaxes(dtick=1 if len(head) <= 16 else None)
    return figure


def _most_sensitive(kv: np.ndarray, layer: int) -> str:
    """Which KV group is the most sensitive on average, and how far from the next: they may be practically tied."""
    order = np.argsort(-kv, kind="stable")
    told = f"KV group {order[0]} is layer {layer}'s most sensitive"
    return told if len(kv) == 1 else f"{told}: {kv[order[0]]:.3g}, the next {kv[order[1]]:.3g}"
