"""Charts of channel and head sensitivity: arrays in, plotly figures out.

Arrays are (layers, channels) or (layers, heads) of sensitivities S_j = mean|x_j| * sum_i |W_ij|, all >= 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app import theme

View = Literal["percentile", "raw", "sorted"]
MAX_BINS = 688  # about two pixels a bin on a wide screen; more would be subsampled by the browser
_LEVELS = 255


@dataclass(frozen=True)
class Bins:
    """Neighbouring channels put together, each bin standing for the largest value in it.

    Attributes:
        values: (layers, bins), the maximum of each bin.
        edges: (bins + 1,), bin b holds the places edges[b] .. edges[b + 1] - 1.
        peaks: (layers, bins), the place of the maximum.
    """

    values: np.ndarray
    edges: np.ndarray
    peaks: np.ndarray


def bin_by_maximum(values: np.ndarray, first: int, last: int, max_bins: int = MAX_BINS) -> Bins:
    """Bin the channels first..last so that a single loud channel stays visible (a mean would hide it).

    Args:
        values: (layers, channels).
        first: first channel shown.
        last: last channel shown, inclusive.
        max_bins: the most bins to make.
    """
    count = last - first + 1
    bins = min(count, max_bins)
    edges = first + np.floor(np.linspace(0, count, bins + 1)).astype(np.int64)
    maxima = np.maximum.reduceat(values[:, first : last + 1], edges[:-1] - first, axis=1)
    owner = np.repeat(np.arange(bins), np.diff(edges))
    is_peak = values[:, first : last + 1] == maxima[:, owner]
    places = np.where(is_peak, np.arange(first, last + 1), np.iinfo(np.int64).max)
    return Bins(maxima, edges, np.minimum.reduceat(places, edges[:-1] - first, axis=1))


def percentiles(values: np.ndarray) -> np.ndarray:
    """The rank of every channel within its layer as a share below it, 0 .. 1 - 1/channels."""
    ranks: np.ndarray = values.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
    return np.asarray(ranks / values.shape[1])


def heatmap(
    values: np.ndarray,
    *,
    unit: str = "FFN channel",
    view: View = "percentile",
    log: bool = True,
    first: int = 0,
    last: int | None = None,
    selected: int | None = None,
    kept: np.ndarray | None = None,
    group_size: int | None = None,
) -> go.Figure:
    """Sensitivity of the whole model, layers down, channels across, binned by maximum.

    A transparent scatter over the heatmap carries hover and clicks (heatmaps report no clicks); its
    points' customdata is [layer, first channel of the bin, last channel of the bin, loudest channel, S].

    Args:
        values: (layers, channels) sensitivities.
        unit: what a column is, for the axis.
        view: "percentile" within the layer, "raw" values, or "sorted" (loudest first in every layer).
        log: logarithmic colours for raw and sorted; percentile always stretches its upper tail.
        first: first channel (or rank) shown.
        last: last one shown, inclusive; None: the last there is.
        selected: a layer to mark.
        kept: (layers,) share of the channels that the plan keeps, drawn beside the rows; None: not drawn.
        group_size: channels a head, for dividers; None: none.
    """
    layers, channels = values.shape
    last = channels - 1 if last is None else last
    shown = -np.sort(-values, axis=1) if view == "sorted" else values
    bins = bin_by_maximum(shown, first, last)
    levels, ticks, labels = _levels(bins, values, view, log)

    columns = 1 if kept is None else 2
    figure = make_subplots(
        rows=1,
        cols=columns,
        shared_yaxes=True,
        horizontal_spacing=0.012,
        column_widths=[1.0] if kept is None else [0.9, 0.1],
    )
    centers = (bins.edges[:-1] + bins.edges[1:] - 1) / 2
    name = {"percentile": "Percentile<br>in its layer", "raw": "S", "sorted": "S"}[view]
    figure.add_trace(
        go.Heatmap(
            z=levels,
            x=centers,
            y=np.arange(layers),
            zmin=0,
            zmax=_LEVELS,
            colorscale=theme.sequential(),
            hoverinfo="skip",
            colorbar={
                "title": {"text": name, "side": "top", "font": {"size": 11}},
                "tickvals": ticks,
                "ticktext": labels,
                "thickness": 10,
                "outlinewidth": 0,
                "x": 1.01,
                "tickfont": {"size": 11},
            },
        ),
        row=1,
        col=1,
    )
    figure.add_trace(_overlay(bins, centers, unit, view), row=1, col=1)
    if kept is not None:
        _add_kept(figure, kept)
    if group_size and view != "sorted":
        edges = [edge - 0.5 for edge in range(group_size, channels, group_size) if first < edge <= last]
        theme.dividers(figure, edges, layers, opacity=0.35, width=1)
    if selected is not None:
        theme.outline_row(figure, selected, float(bins.edges[0]) - 0.5, float(bins.edges[-1]) - 0.5)
    theme.finish(
        figure,
        concentration(values, unit),
        x=f"Rank within the layer, loudest {unit} first" if view == "sorted" else _axis(unit, bins),
        y="Layer",
        height=max(300, min(16 * layers + 120, 900)),
        colorbar=True,
        above=kept is not None,
    )
    figure.update_yaxes(range=[layers - 0.5, -0.5], showgrid=False, row=1, col=1)
    figure.update_xaxes(range=[bins.edges[0] - 0.5, bins.edges[-1] - 0.5], showgrid=False, row=1, col=1)
    if kept is not None:
        figure.update_xaxes(
            range=[0, 1],
            tickvals=[0, 1],
            ticktext=["0", "1"],
            title_text="Kept share",
            side="top",  # beside the other axis, the two would overlap on a narrow screen
            showgrid=False,
            row=1,
            col=2,
        )
        figure.update_yaxes(range=[layers - 0.5, -0.5], showgrid=False, title_text="", row=1, col=2)
        figure.update_layout(barmode="stack", bargap=0.2)
    figure.update_layout(clickmode="event+select", hovermode="closest")
    return figure


def concentration(values: np.ndarray, unit: str = "FFN channel") -> str:
    """The finding of the heatmap, as a sentence: how much of the sensitivity the top 1% carry."""
    channels = values.shape[1]
    top = max(1, round(channels / 100))
    share = np.sort(values, axis=1)[:, -top:].sum(axis=1) / np.maximum(values.sum(axis=1), 1e-30)
    layer = int(share.argmax())
    return (
        f"In layer {layer} the loudest 1% of {unit}s carry {share[layer]:.0%} of the sensitivity; "
        f"in the median layer {np.median(share):.0%}"
    )


# --- inside --------------------------------------------------------------------------------------------


def _levels(bins: Bins, values: np.ndarray, view: View, log: bool) -> tuple[np.ndarray, list[float], list[str]]:
    """Colour levels 0..255 of the bins, and the colour bar's ticks and labels in true values."""
    if view == "percentile":
        # Every layer has the same percentiles; what tells channels apart is how rare they are. Stretch the
        # upper tail: 90, 99, 99.9% are equal steps.
        depth = np.log10(values.shape[1])
        share = np.take_along_axis(percentiles(values), bins.peaks, axis=1)
        position = -np.log10(1 - share) / depth
        marks = [mark for mark in (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999) if mark < 1 - 0.9 / values.shape[1]]
        ticks = [-np.log10(1 - mark) / depth * _LEVELS for mark in marks]
        return _bytes(position), ticks, [f"{mark * 100:.4g}%" for mark in marks]
    high = float(values.max()) or 1.0
    if not log:
        return _bytes(bins.values / high), [0, _LEVELS / 2, _LEVELS], ["0", f"{high / 2:.3g}", f"{high:.3g}"]
    positive = values[values > 0]
    low = max(float(np.quantile(positive, 0.01)) if positive.size else high / 10, high * 1e-8)
    low = min(low, high / 10)
    span = np.log10(high / low)
    marks = theme.log_marks(low, high)
    ticks = [np.log10(mark / low) / span * _LEVELS for mark in marks]
    position = np.log10(np.maximum(bins.values, low) / low) / span
    return _bytes(position), ticks, [f"{mark:g}" for mark in marks]


def _bytes(position: np.ndarray) -> np.ndarray:
    return np.asarray(np.round(np.clip(position, 0, 1) * _LEVELS), dtype=np.uint8)


def _overlay(bins: Bins, centers: np.ndarray, unit: str, view: View) -> go.Scattergl:
    layers, count = bins.values.shape
    rows, columns = np.indices((layers, count))
    data = np.stack(
        [
            rows.ravel(),
            bins.edges[:-1][columns.ravel()],
            bins.edges[1:][columns.ravel()] - 1,
            bins.peaks.ravel(),
            bins.values.ravel(),
        ],
        axis=1,
    ).astype(np.float32)
    where = "Rank" if view == "sorted" else unit[0].upper() + unit[1:]
    shown = f"{where} %{{customdata[3]:d}}"
    if int(np.diff(bins.edges).max()) > 1:
        shown = f"{where}s %{{customdata[1]:d}} to %{{customdata[2]:d}}<br>loudest: %{{customdata[3]:d}},"
    hover = f"Layer %{{customdata[0]:d}}, {shown} S = %{{customdata[4]:.4g}}<extra></extra>"
    return go.Scattergl(
        x=centers[columns.ravel()].astype(np.float32),
        y=rows.ravel().astype(np.uint16),
        mode="markers",
        marker={"size": 6, "opacity": 0, "symbol": "square"},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=data,
        hovertemplate=hover,
        showlegend=False,
    )


def _add_kept(figure: go.Figure, kept: np.ndarray) -> None:
    layers = len(kept)
    figure.add_trace(
        go.Bar(
            x=kept,
            y=np.arange(layers),
            orientation="h",
            marker={
                "color": [theme.layer_color(layer, layers) for layer in range(layers)],
                "line": {"width": 0},
            },
            hovertemplate="Layer %{y}: the plan keeps %{x:.0%}<extra></extra>",
            showlegend=False,
        ),
        row=1,
        col=2,
    )
    figure.add_trace(
        go.Bar(
            x=1 - kept,
            y=np.arange(layers),
            orientation="h",
            marker={
                "color": theme.QUIET,
                "pattern": {"shape": "/", "size": 4, "solidity": 0.3},
                "line": {"width": 0},
            },
            hoverinfo="skip",
            showlegend=False,
        ),
        row=1,
        col=2,
    )


def _axis(unit: str, bins: Bins) -> str:
    widest = int(np.diff(bins.edges).max())
    name = unit[0].upper() + unit[1:]
    return name if widest == 1 else f"{name} (a column: the loudest of {widest})"
