"""Charts of the channels of one layer: their curve and their distribution."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from app import theme


def sorted_curve(
    values: np.ndarray,
    *,
    layer: int,
    layers: int,
    kept: int | None = None,
    log: bool = True,
    unit: str = "FFN channel",
) -> go.Figure:
    """The sensitivities of one layer, the highest first, with the plan's cut.

    Args:
        values: (channels,) sensitivities of the layer.
        layer: which layer it is, for its colour.
        layers: how many layers the model has.
        kept: how many of the most sensitive the plan keeps; None: no cut is drawn.
        log: logarithmic vertical axis.
        unit: what a column is.
    """
    ordered = -np.sort(-values)
    half = int(np.searchsorted(ordered.cumsum(), ordered.sum() / 2)) + 1
    rank = _spread(len(ordered))
    color = theme.layer_color(layer, layers)
    figure = go.Figure()
    cut = len(ordered) if kept is None else kept
    for chosen, line, name in (
        (rank[rank <= cut], {"color": color, "width": 2.5}, "kept"),
        (rank[rank >= max(cut, 1)], {"color": theme.QUIET, "width": 2, "dash": "dot"}, "dropped"),
    ):
        if len(chosen) and (name == "kept" or kept is not None):
            figure.add_trace(
                go.Scatter(
                    x=chosen,
                    y=ordered[chosen - 1],
                    mode="lines",
                    line=line,
                    name=name,
                    hovertemplate="rank %{x:,d}: S = %{y:.3g}<extra></extra>",
                )
            )
    if kept is not None and 0 < kept < len(ordered):
        figure.add_vline(
            x=kept,
            line={"color": theme.MARK, "width": 1.5},
            annotation={"text": f"plan keeps {kept:,}", "font": {"size": 11}},
            annotation_position="top right" if kept < len(ordered) * 0.6 else "top left",
        )
    if half < len(ordered):
        figure.add_trace(_half(half, float(ordered[half - 1])))
    theme.finish(
        figure,
        f"{half:,} of {len(ordered):,} channels carry half",
        x="Rank",
        y="Sensitivity S",
        height=300,
    )
    return theme.sensitivity_axis(figure, float(ordered[-1]), float(ordered[0]), log=log)


def _half(rank: int, height: float) -> go.Scatter:
    """The mark of the rank up to which half of the sensitivity lies: above a falling curve there is room for words."""
    return go.Scatter(
        x=[rank],
        y=[height],
        mode="markers+text",
        marker={"color": theme.INK, "size": 8},
        text=[f"half: {rank:,}"],
        textposition="top right",
        textfont={"size": 11, "color": theme.INK},
        name="half",
        hovertemplate="The first %{x:,d} carry half<extra></extra>",
        cliponaxis=False,
    )


def distribution(
    values: np.ndarray, *, layer: int, layers: int, kept: np.ndarray | None = None, unit: str = "FFN channel"
) -> go.Figure:
    """The histogram of log10 S in one layer; kept solid, dropped hatched grey.

    Args:
        values: (channels,) sensitivities of the layer.
        layer: which layer it is.
        layers: how many layers the model has.
        kept: (channels,) which ones the plan keeps; None: no plan touches the layer.
        unit: what a column is.
    """
    logs = np.log10(np.maximum(values, values[values > 0].min() if (values > 0).any() else 1e-12))
    edges = np.histogram_bin_edges(logs, bins=min(48, max(8, len(values) // 8)))
    kept = np.ones(len(values), dtype=bool) if kept is None else kept
    figure = go.Figure()
    marks = (
        (kept, {"color": theme.layer_color(layer, layers)}, "kept"),
        (~kept, {"color": theme.QUIET, "pattern": {"shape": "/", "size": 5, "solidity": 0.3}}, "dropped"),
    )
    for chosen, marker, name in marks:
        if chosen.any():
            counts = np.histogram(logs[chosen], bins=edges)[0]
            figure.add_trace(
                go.Bar(
                    x=(edges[:-1] + edges[1:]) / 2,
                    y=counts,
                    width=np.diff(edges),
                    marker={**marker, "line": {"width": 0}},
                    name=name,
                    hovertemplate=f"%{{y:,d}} {name} near S = 10^%{{x:.2f}}<extra></extra>",
                )
            )
    median, top = float(np.median(values)), float(values.max())
    theme.finish(
        figure,
        f"Highest: {top / max(median, 1e-30):,.0f} × the median",
        x="log₁₀ of the sensitivity S",
        y=f"{unit[0].upper()}{unit[1:]}s",
        height=300,
        legend=len(figure.data) > 1,
    )
    figure.update_layout(barmode="stack", bargap=0, legend={"traceorder": "normal"})
    middle = float(np.log10(max(median, 10.0 ** float(edges[0]))))
    line = {"color": theme.INK, "width": 1.5, "dash": "dot"}
    return figure.add_vline(x=middle, line=line, annotation={"text": "median", "font": {"size": 11}})


def _spread(count: int, points: int = 600) -> np.ndarray:
    """Ranks 1..count, thinned evenly in the logarithm and evenly, so that neither end is lost."""
    if count <= points:
        return np.arange(1, count + 1)
    even = np.linspace(1, count, points // 2)
    log = np.geomspace(1, count, points // 2)
    return np.unique(np.round(np.concatenate([even, log])).astype(np.int64))
