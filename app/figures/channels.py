"""Charts of channel and head sensitivity: arrays in, plotly figures out.

Arrays are (layers, channels) or (layers, heads) of sensitivities S_j = mean|x_j| * sum_i |W_ij|, all >= 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app import theme
from app.figures import channel_findings
from app.figures.channel_findings import View

MAX_BINS = 688  # about two pixels a bin on a wide screen; more would be subsampled by the browser
POINTS = 40  # at least, across the map: what is hovered and clicked
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


def bin_by_maximum(values: np.ndarray, first: int, last: int, max_bins: int = MAX_BINS, *, log: bool = False) -> Bins:
    """Bin the channels first..last so that a single sensitive channel stays visible (a mean would hide it).

    Args:
        values: (layers, channels).
        first: first channel shown.
        last: last channel shown, inclusive.
        max_bins: the most bins to make.
        log: bins as wide on a logarithmic axis of ranks, counted from 1, where that is more than a rank.
    """
    count = last - first + 1
    bins = min(count, max_bins)
    if log:
        edges = np.unique(np.round(np.geomspace(first + 1, last + 2, max_bins + 1)).astype(np.int64) - 1)
        bins = len(edges) - 1
    else:
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
    view: View = "sorted",
    log: bool = True,
    first: int = 0,
    last: int | None = None,
    selected: int | None = None,
    channel: int | None = None,
    kept: np.ndarray | None = None,
    group_size: int | None = None,
) -> go.Figure:
    """Sensitivity of the whole model, layers down, channels across, binned by maximum.

    A transparent scatter over the heatmap carries hover and clicks (heatmaps report no clicks); its
    points' customdata is [layer, first place of the bin, last place of the bin, most sensitive channel, S, share kept].

    Args:
        values: (layers, channels) sensitivities.
        unit: what a column is, for the axis.
        view: "sorted" (most sensitive first in every layer, ranks on a logarithmic axis), "raw" values in the
            channels' own order, or "percentile" within the layer.
        log: logarithmic colours for raw and sorted; percentile always stretches its upper tail.
        first: first channel (or rank, from 0) shown.
        last: last one shown, inclusive; None: the last there is.
        selected: a layer to mark, of which the title speaks first.
        channel: a channel of that layer to mark.
        kept: (layers, channels), which ones the plan keeps; the others are hatched. None: no plan is drawn.
        group_size: channels a head, for dividers; None: none.
    """
    layers, channels = values.shape
    last = channels - 1 if last is None else last
    ranked = view == "sorted"
    order = np.argsort(-values, axis=1, kind="stable") if ranked else None
    shown = values if order is None else np.take_along_axis(values, order, axis=1)
    bins = bin_by_maximum(shown, first, last, log=ranked)
    levels, ticks, labels = _levels(bins, values, view, log)
    stays = None
    if kept is not None:
        stays = _share_kept(kept if order is None else np.take_along_axis(kept, order, axis=1), bins)
    peaks = bins.peaks if order is None else np.take_along_axis(order, bins.peaks, axis=1)

    edges = axis_place(bins.edges, view) if ranked else bins.edges - 0.5
    centers = (edges[:-1] + edges[1:]) / 2
    name = {"percentile": "Percentile<br>in its layer", "raw": "S", "sorted": "S"}[view]
    figure = go.Figure(
        go.Heatmap(
            z=levels,
            x=edges if ranked else centers,
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
        )
    )
    figure.add_trace(_overlay(bins, edges, peaks, stays, unit, view))
    if stays is not None and (stays < 1).any():
        figure.add_trace(_hatching(stays, edges))
    if group_size and not ranked:
        dividers = [edge - 0.5 for edge in range(group_size, channels, group_size) if first < edge <= last]
        theme.dividers(figure, dividers, layers, opacity=0.35, width=1)
    if selected is not None:
        theme.outline_row(figure, selected, float(edges[0]), float(edges[-1]))
        if channel is not None:
            place = channel if order is None else int(np.flatnonzero(order[selected] == channel)[0])
            _point_at(figure, selected, place, bins, edges)
    theme.finish(
        figure,
        channel_findings.of_view(values, unit, view, selected),
        x=f"{_capital(unit)}s, most sensitive first (rank, log scale)" if ranked else _axis(unit, bins),
        y="Layer",
        height=max(300, min(9 * layers + 110, 900)),
        colorbar=True,
    )
    figure.update_yaxes(range=[layers - 0.5, -0.5], showgrid=False)
    if view != "percentile":
        named = channel_findings.most_concentrated(values) if ranked else channel_findings.brightest(values)
        _name_row(figure, named, layers)
    figure.update_xaxes(range=[edges[0], edges[-1]], showgrid=False)
    if ranked:
        _mark_ranks(figure, first, last, channels)
    figure.update_yaxes(fixedrange=True)
    return figure.update_layout(clickmode="event+select", hovermode="closest", dragmode="zoom")


def axis_place(places: np.ndarray, view: View) -> np.ndarray:
    """Where channels, or ranks counted from 0, stand on the map's horizontal axis."""
    return np.asarray(np.log10(places + 1) if view == "sorted" else places)


def place_at(x: float, view: View, channels: int) -> int:
    """The channel, or the rank from 0, at a point of that axis; outside of it the nearest there is."""
    place = 10 ** min(x, 18.0) - 1 if view == "sorted" else x
    return round(min(max(place, 0), channels - 1))


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


def _overlay(
    bins: Bins, edges: np.ndarray, peaks: np.ndarray, stays: np.ndarray | None, unit: str, view: View
) -> go.Scattergl:
    layers = len(bins.values)
    # Plotly finds a point that is at most 20 pixels away, so that a wide bin has several.
    several = np.maximum(np.ceil(np.diff(edges) / (edges[-1] - edges[0]) * POINTS).astype(np.int64), 1)
    owner = np.repeat(np.arange(len(several)), several)
    within = np.arange(len(owner)) - np.repeat(several.cumsum() - several, several)
    places = edges[owner] + (within + 0.5) / several[owner] * np.diff(edges)[owner]
    rows, columns = np.indices((layers, len(owner)))
    chosen = rows.ravel(), owner[columns.ravel()]
    begin = 1 if view == "sorted" else 0  # people count ranks from 1
    data = np.stack(
        [
            rows.ravel(),
            bins.edges[:-1][chosen[1]] + begin,
            bins.edges[1:][chosen[1]] - 1 + begin,
            peaks[chosen],
            bins.values[chosen],
            np.ones(rows.size) if stays is None else stays[chosen],
        ],
        axis=1,
    ).astype(np.float32)
    shown = f"{unit} %{{customdata[3]:d}}"
    if view == "sorted":  # a stretch of ranks begins with its most sensitive
        shown = f"rank %{{customdata[1]:d}}<br>{unit} %{{customdata[3]:d}},"
    elif int(np.diff(bins.edges).max()) > 1:
        shown = f"{unit}s %{{customdata[1]:d}} to %{{customdata[2]:d}}<br>most sensitive: %{{customdata[3]:d}},"
    kept = "" if stays is None else "<br>%{customdata[5]:.0%} kept"
    hover = f"Layer %{{customdata[0]:d}}, {shown} S = %{{customdata[4]:.4g}}{kept}<extra></extra>"
    return go.Scattergl(
        x=places[columns.ravel()].astype(np.float32),
        y=rows.ravel().astype(np.uint16),
        mode="markers",
        marker={"size": 6, "opacity": 0, "symbol": "square"},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=data,
        hovertemplate=hover,
        showlegend=False,
    )


def _share_kept(kept: np.ndarray, bins: Bins) -> np.ndarray:
    """The share of each bin's channels that stay, (layers, bins)."""
    first, last = int(bins.edges[0]), int(bins.edges[-1])
    counts = np.add.reduceat(kept[:, first:last].astype(np.float32), bins.edges[:-1] - first, axis=1)
    return np.asarray(counts / np.diff(bins.edges))


HATCH_COLUMNS, HATCH_ROWS = 480, 4  # of the pattern: across the map, and of each layer
HATCH_EVERY, HATCH_WIDE = 9, 2  # columns


def _hatching(stays: np.ndarray, edges: np.ndarray) -> go.Heatmap:
    """Grey, hatched, over the bins most of whose channels are dropped, which shine through.

    A heatmap knows no pattern, so it is drawn.
    """
    layers = len(stays)
    grid = np.linspace(edges[0], edges[-1], HATCH_COLUMNS + 1)
    middles = (grid[:-1] + grid[1:]) / 2
    owner = np.clip(np.searchsorted(edges, middles, side="right") - 1, 0, stays.shape[1] - 1)
    dropped = np.repeat(stays[:, owner] < 0.5, HATCH_ROWS, axis=0)
    rows, columns = np.indices(dropped.shape)
    line = (columns + 2 * rows) % HATCH_EVERY < HATCH_WIDE
    return go.Heatmap(
        z=(dropped.astype(np.uint8) * (1 + line)).astype(np.uint8),
        x=middles,
        y=(np.arange(layers * HATCH_ROWS) + 0.5) / HATCH_ROWS - 0.5,
        zmin=0,
        zmax=2,
        colorscale=[[0, "rgba(128, 136, 148, 0)"], [0.5, "rgba(150, 157, 168, 0.6)"], [1, "rgba(96, 104, 116, 0.85)"]],
        showscale=False,
        hoverinfo="skip",
    )


def _point_at(figure: go.Figure, layer: int, place: int, bins: Bins, edges: np.ndarray) -> None:
    """Frame the bin of one channel, if it is in sight."""
    if bins.edges[0] <= place < bins.edges[-1]:
        found = int(np.searchsorted(bins.edges, place, side="right")) - 1
        middle, half = (edges[found] + edges[found + 1]) / 2, (edges[found + 1] - edges[found]) / 2
        half = max(half, 0.004 * (edges[-1] - edges[0]))
        figure.add_shape(
            type="rect",
            x0=middle - half,
            x1=middle + half,
            y0=layer - 0.9,
            y1=layer + 0.9,
            line={"color": theme.MARK, "width": 2},
            fillcolor="rgba(255, 255, 255, 0.5)",
        )


def _mark_ranks(figure: go.Figure, first: int, last: int, channels: int) -> None:
    """Ticks at round ranks, and where the top 1% end, of which the title speaks."""
    marks = [int(mark) for mark in theme.log_marks(first + 1, last + 1)] or [first + 1, last + 1]
    few = marks if len(marks) <= 10 else [mark for mark in marks if str(mark)[0] == "1"]
    figure.update_layout(margin_t=figure.layout.margin.t + 14)  # for the words over the line
    figure.update_xaxes(tickvals=[float(np.log10(mark)) for mark in few], ticktext=[f"{mark:,}" for mark in few])
    top = max(1, round(channels / 100))
    if first < top <= last:
        figure.add_vline(
            x=float(np.log10(top + 1)), line={"color": "rgba(255, 255, 255, 0.85)", "width": 2, "dash": "dot"}
        )
        figure.add_annotation(
            text="top 1% ⟵",
            x=float(np.log10(top + 1)),
            y=1,
            yref="paper",
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            font={"size": 11, "color": theme.INK},
        )


def _name_row(figure: go.Figure, layer: int, layers: int) -> None:
    """Ticks at every fifth layer, and in bold at that of which the title speaks."""
    step = 1 if layers <= 12 else 5 if layers <= 60 else 10
    shown = sorted({layer, *(each for each in range(0, layers, step) if step == 1 or abs(each - layer) > 1)})
    figure.update_yaxes(tickvals=shown, ticktext=[f"<b>{each}</b>" if each == layer else str(each) for each in shown])


def _axis(unit: str, bins: Bins) -> str:
    widest = int(np.diff(bins.edges).max())
    name = _capital(unit)
    return name if widest == 1 else f"{name} (a column: the most sensitive of {widest})"


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]
