"""The lesson's chart of the loop: what was measured before a merge, and which window was taken.

Pure functions: arrays in, a plotly figure out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go

import come
from app import theme
from come.report import looks
from come.report.metrics import number

HEIGHT = 270
PALE = 0.35  # windows that are not taken
NAMES = 88  # pixels for the names at the lines' ends
LOOP, ONE = "come", "come-joint"  # the methods of both ways, which look here as on every page


def loop(
    influence: np.ndarray, groups: Sequence[Sequence[int]], window: tuple[int, int] | None, layers: int, title: str
) -> go.Figure:
    """SBI of every window above the layers as they are, which are drawn in the colours of their sources.

    Windows with a layer that is merged already are pale: they are not taken while others are left.

    Args:
        influence: SBI of the windows, the first layer's first, (windows,); empty where nothing was measured.
        groups: the original layers that each layer stands for.
        window: the two layers that are merged next; None at the end.
        layers: of the original model.
        title: the finding.
    """
    figure = go.Figure()
    span = len(groups) - len(influence) + 1
    if len(influence):
        names = [f"original layers {originals(groups[at : at + span])}" for at in range(len(influence))]
        taken = None if window is None else window[0]
        figure.add_trace(
            go.Bar(
                x=np.arange(len(influence)) + (span - 1) / 2,
                y=influence,
                width=0.7,
                marker={
                    "color": [theme.MARK if at == taken else theme.ACCENT for at in range(len(influence))],
                    "opacity": [
                        PALE if any(len(each) > 1 for each in groups[at : at + span]) else 1.0
                        for at in range(len(influence))
                    ],
                },
                customdata=names,
                hovertemplate="%{customdata}: SBI = %{y:.4f}<extra></extra>",
            )
        )
    high = float(influence.max()) if len(influence) else 0.5
    low, size = -0.24 * high, 0.15 * high
    figure.update_layout(shapes=_tiles(groups, low, size, layers) + _frame(window, low, size))
    figure.add_trace(_hover(groups, low + size / 2))
    theme.finish(figure, title, x="Layer, as numbered before this merge", y="Skip block influence", height=HEIGHT)
    figure.update_xaxes(range=[-0.8, layers - 0.2], dtick=5, showgrid=False, fixedrange=True)
    ticks = [tick for tick in (0, 0.1, 0.2, 0.3, 0.4, 0.5) if tick <= high]
    return figure.update_yaxes(range=[low * 1.15, high * 1.08], tickvals=ticks, fixedrange=True)


def ended(
    loop: Sequence[float], beside: Mapping[int, float], groups: Sequence[Sequence[int]], layers: int, title: str
) -> go.Figure:
    """Perplexity after each merge of the loop, below the layers that it left.

    Args:
        loop: of the original, and after each merge.
        beside: by layers left, of models of one merge each.
        groups: the original layers that each layer stands for.
        layers: of the original model.
        title: the finding.
    """
    left = [layers - merges for merges in range(len(loop))]
    figure = go.Figure(
        [
            _line(left, loop, LOOP, "layers, pair after pair merged"),
            _line([layers, *beside], [loop[0], *beside.values()], ONE, "layers, one window merged"),
            _hover(groups, 0.5).update(xaxis="x2", yaxis="y2"),
        ]
    )
    tiles = {"visible": False, "fixedrange": True}
    figure.update_layout(
        shapes=_tiles(groups, 0.0, 1.0, layers, "2"),
        xaxis2={"range": [-0.8, layers - 0.2], "anchor": "y2", **tiles},
        yaxis2={"range": [0, 1], "domain": [0.9, 1], "anchor": "x2", **tiles},
    )
    theme.finish(figure, title, x="Layers left", y="Perplexity", height=HEIGHT)
    figure.update_layout(
        margin_r=NAMES,
        xaxis={"range": [layers + 0.5, left[-1] - 0.2], "dtick": 3, "tick0": layers, "fixedrange": True},
        yaxis={"domain": [0, 0.8], "range": [0, 1.08 * max(*loop, *beside.values())], "nticks": 5, "fixedrange": True},
    )
    ends = [("CoMe's loop", left[-1], loop[-1])]
    if beside:
        ends.append(("One window", min(beside), beside[min(beside)]))
    for name, x, y in ends:
        words = f"{name}<br><b>{number(y)}</b>"
        at = {"x": x, "y": y, "text": words, "xanchor": "left", "xshift": 9, "align": "left", "showarrow": False}
        figure.add_annotation(at | {"font": {"size": 12}})
    return figure


def originals(groups: Sequence[Sequence[int]]) -> str:
    """Which of the original's layers a few are: [[13, 14], [15]] -> "13–14 and 15"."""
    return " and ".join(f"{group[0]}–{group[-1]}" if len(group) > 1 else f"{group[0]}" for group in groups)


def _line(left: Sequence[int], values: Sequence[float], method: str, words: str) -> go.Scatter:
    look = looks.style(method, list(come.methods()))
    return go.Scatter(
        x=list(left),
        y=list(values),
        mode="lines+markers",
        line={"color": look.color, "width": max(look.width, 2), "dash": look.dash},
        marker={"color": look.color, "symbol": look.marker, "size": 9},
        customdata=[number(value) for value in values],
        hovertemplate="%{x} " + words + ": perplexity %{customdata}<extra></extra>",
        cliponaxis=False,
    )


def _tiles(groups: Sequence[Sequence[int]], low: float, size: float, layers: int, axes: str = "") -> list[dict]:
    """A tile a layer, cut into the colours of the original layers that it stands for."""
    return [
        {
            "type": "rect",
            "xref": f"x{axes}",
            "yref": f"y{axes}",
            "x0": place - 0.43,
            "x1": place + 0.43,
            "y0": low + size * part / len(group),
            "y1": low + size * (part + 1) / len(group),
            "line": {"width": 0},
            "fillcolor": theme.layer_color(layer, layers),
        }
        for place, group in enumerate(groups)
        for part, layer in enumerate(group)
    ]


def _frame(window: tuple[int, int] | None, low: float, size: float) -> list[dict]:
    if window is None:
        return []
    return [
        {
            "type": "rect",
            "x0": window[0] - 0.5,
            "x1": window[1] + 0.5,
            "y0": low * 1.08,
            "y1": low + size * 1.12,
            "line": {"width": 3, "color": theme.MARK},
        }
    ]


def _hover(groups: Sequence[Sequence[int]], y: float) -> go.Scatter:
    words = [
        f"layer {place}: original layer {group[0]}"
        if len(group) == 1
        else f"layer {place}: made of original layers {group[0]} to {group[-1]}"
        for place, group in enumerate(groups)
    ]
    return go.Scatter(
        x=list(range(len(groups))),
        y=[y] * len(groups),
        mode="markers",
        marker={"size": 14, "opacity": 0},
        customdata=words,
        hovertemplate="%{customdata}<extra></extra>",
    )
