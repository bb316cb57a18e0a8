"""The lesson's layers, drawn as stripes: one stripe a unit, KV groups above FFN channels.

Pure functions: arrays in, a plotly figure out. A source layer has its colour of every page; what is dropped is grey.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from app import theme

COLUMNS = 256  # stripes side by side, so that each is still seen on a telephone
_GROUP_LINES = 2  # how many lines of FFN stripes the KV groups are as high as
_LINE, _FINE = 16, 8  # pixels: of one layer, of three
_GAP = 1  # lines between the KV groups and the FFN channels
GROUND = "#ffffff"  # in the dark theme the step has its own: frame.STYLE
_LEVELS = (50.0, 90.0, 99.0, 100.0)


@dataclass(frozen=True)
class Stripes:
    """One layer's units, in the order in which they are drawn.

    Attributes:
        label: what is written beside it.
        source: the original layer of each unit; -1 where it is dropped, (units,).
        index: of each unit in its source layer. value: its sensitivity.
    """

    label: str
    source: np.ndarray
    index: np.ndarray
    value: np.ndarray


def stack(groups: np.ndarray, channels: np.ndarray, *, layer: int, heads: int, ranked: bool) -> go.Figure:
    """One layer as its units, each as bright as its percentile within the layer.

    Args:
        groups: sensitivity of its KV groups, (groups,). channels: of its FFN channels, (channels,).
        layer: which it is. heads: query heads that share one KV group.
        ranked: the most sensitive first, else as they lie.
    """
    figure = go.Figure()
    order = _order(channels, ranked)
    rows = -(-len(channels) // COLUMNS)
    top = _GROUP_LINES + _GAP
    figure.add_trace(
        _heat(
            _wrapped(_brightness(channels)[order]),
            top,
            np.stack([_wrapped(order), _wrapped(channels[order])], axis=-1),
            f"Layer {layer}, FFN channel %{{customdata[0]:d}}<br>S = %{{customdata[1]:.3g}}<extra></extra>",
            theme.sequential(),
        )
    )
    order = _order(groups, ranked)
    figure.add_trace(
        _heat(
            _spread(_brightness(groups)[order], _GROUP_LINES),
            0,
            np.stack([_spread(order, _GROUP_LINES), _spread(groups[order], _GROUP_LINES)], axis=-1),
            f"Layer {layer}, KV group %{{customdata[0]:d}} with its {heads} query heads"
            "<br>S = %{customdata[1]:.3g}<extra></extra>",
            theme.sequential(),
        )
    )
    most = float(channels.max() / max(float(np.median(channels)), 1e-30))
    title = (
        f"Layer {layer}: {len(channels):,} FFN channels and {len(groups)} KV groups; "
        f"the most sensitive has {most:.1f} times the median"
    )
    labels = [((_GROUP_LINES - 1) / 2, "KV groups"), (top + (rows - 1) / 2, "FFN channels")]
    _finish(figure, title, top + rows, labels, _LINE)
    return figure


def joined(
    first: tuple[Stripes, Stripes], second: tuple[Stripes, Stripes], new: tuple[Stripes, Stripes], layers: int
) -> go.Figure:
    """Two layers above the one that they become; each as (KV groups, FFN channels).

    Args:
        first, second: the source layers. new: the merged one. layers: of the original model.
    """
    figure = go.Figure()
    sources = sorted({int(source) for part in new for source in part.source})
    labels, at = [], 0
    dotted = max(int(part.source.max()) for part in second)
    over: list[tuple[float, float, float, float]] = []
    for groups, channels in (first, second, new):
        rows = -(-len(channels.source) // COLUMNS)
        for part, name, start, grid in (
            (groups, "KV group", at, lambda values: _spread(values, _GROUP_LINES)),
            (channels, "FFN channel", at + _GROUP_LINES, _wrapped),
        ):
            level = np.searchsorted(sources, part.source).astype(float) + 1
            level[part.source < 0] = 0
            over += _runs(grid(part.source.astype(float)) == dotted, start) if dotted >= 0 else []
            data = [part.source, part.index, part.value]
            hover = f"{part.label}: {name} %{{customdata[1]:d}}"
            hover += " of layer %{customdata[0]:d}" if part is new[0] or part is new[1] else ""
            figure.add_trace(
                _heat(
                    grid(level),
                    start,
                    np.stack([grid(values.astype(float)) for values in data], axis=-1),
                    f"{hover}<br>S = %{{customdata[2]:.3g}}<extra></extra>",
                    _flat([theme.QUIET, *(theme.layer_color(source, layers) for source in sources)]),
                    high=len(sources),
                )
            )
        labels.append((at + (_GROUP_LINES + rows - 1) / 2, groups.label))
        at += _GROUP_LINES + rows + 2
    if over:
        figure.add_trace(_dots(over, theme.layer_color(dotted, layers)))
    figure.update_layout(shapes=_border(new[1].source, at - 2 - rows))
    _finish(figure, _joined_title(new[1]), at - 2, labels, _FINE)
    return figure


def _runs(of: np.ndarray, top: int) -> list[tuple[float, float, float, float]]:
    """The cells of a grid that are true, as rectangles (left, right, top, bottom), one a run in a line."""
    edges = np.diff(np.pad(of.astype(int), ((0, 0), (1, 1))), axis=1)
    (lines, begins), (_, ends) = np.nonzero(edges == 1), np.nonzero(edges == -1)
    return [
        (begin - 0.5, end - 0.5, top + line - 0.4, top + line + 0.4)
        for line, begin, end in zip(lines.tolist(), begins.tolist(), ends.tolist(), strict=True)
    ]


def _dots(over: Sequence[tuple[float, float, float, float]], color: str) -> go.Scatter:
    """Dots over rectangles of that colour, one trace."""
    x = [place for left, right, _, _ in over for place in (left, right, right, left, None)]
    y = [place for _, _, top, bottom in over for place in (top, top, bottom, bottom, None)]
    pattern = theme.dots(color, second=True) | {"fillmode": "replace"}
    look = {"fill": "toself", "fillpattern": pattern, "line": {"width": 0}, "showlegend": False}
    return go.Scatter(x=x, y=y, mode="lines", hoverinfo="skip", **look)


def _border(source: np.ndarray, top: int) -> list[dict[str, object]]:
    """A step where the new layer's second source begins, as wide as can be seen from afar."""
    first = int((source == source[0]).sum())
    if first == len(source):
        return []
    line, column = top + first // COLUMNS, first % COLUMNS
    path = f"M{COLUMNS - 0.5},{line - 0.5}H{column - 0.5}V{line + 0.5}H-0.5"
    return [{"type": "path", "path": path, "xref": "x", "yref": "y", "line": {"color": GROUND, "width": 5}}]


def _joined_title(channels: Stripes) -> str:
    counts = {int(source): int((channels.source == source).sum()) for source in np.unique(channels.source)}
    if len(counts) == 1:
        return f"Layer {next(iter(counts))} is taken whole"
    kept = " and ".join(f"{count:,} of layer {source}" for source, count in counts.items())
    return f"The new layer's {len(channels.source):,} FFN channels: {kept}"


def _order(values: np.ndarray, ranked: bool) -> np.ndarray:
    return np.argsort(-values, kind="stable") if ranked else np.arange(len(values))


def _brightness(values: np.ndarray) -> np.ndarray:
    """0..1 by percentile within the layer; the upper tail is stretched, so that the few highest stand out."""
    ranks = np.argsort(np.argsort(values, kind="stable"), kind="stable") / max(len(values) - 1, 1) * 100
    return np.interp(ranks, [0.0, *_LEVELS], np.linspace(0, 1, len(_LEVELS) + 1))


def _wrapped(values: np.ndarray) -> np.ndarray:
    """Units in lines of ``COLUMNS``, (lines, COLUMNS); nan where the last line has none left."""
    lines = -(-len(values) // COLUMNS)
    grid = np.full(lines * COLUMNS, np.nan)
    grid[: len(values)] = values
    return grid.reshape(lines, COLUMNS)


def _spread(values: Sequence[float] | np.ndarray, lines: int) -> np.ndarray:
    """A few units over the whole width, (lines, COLUMNS), a blank column between two."""
    row = np.full(COLUMNS, np.nan)
    edges = np.linspace(0, COLUMNS + 1, len(values) + 1).round().astype(int)
    for value, start, end in zip(values, edges[:-1], edges[1:], strict=True):
        row[start : end - 1] = value
    return np.tile(row, (lines, 1))


def _heat(
    level: np.ndarray, top: int, data: np.ndarray, hover: str, scale: list[list[float | str]], high: float = 1.0
) -> go.Heatmap:
    return go.Heatmap(
        z=level.astype(np.float32),
        y0=top,
        dy=1,
        zmin=0,
        zmax=high,
        colorscale=scale,
        showscale=False,
        ygap=2 if len(level) > _GROUP_LINES else 0,
        customdata=data.astype(np.float32),
        hovertemplate=hover,
        hoverongaps=False,
    )


def _flat(colors: list[str]) -> list[list[float | str]]:
    """A scale for whole numbers 0, 1, ...: one colour each."""
    last = max(len(colors) - 1, 1)
    edges = [0.0, *[(i + 0.5) / last for i in range(len(colors) - 1)], 1.0]
    return [[edge, color] for i, color in enumerate(colors) for edge in edges[i : i + 2]]


def _finish(figure: go.Figure, title: str, lines: int, labels: list[tuple[float, str]], line: int) -> None:
    theme.finish(figure, title, height=60 + line * lines)
    figure.update_xaxes(visible=False, range=[-0.5, COLUMNS - 0.5], fixedrange=True)
    figure.update_yaxes(
        range=[lines - 0.5, -0.5],
        tickvals=[y for y, _ in labels],
        ticktext=[text for _, text in labels],
        showgrid=False,
        fixedrange=True,
    )
