"""Charts of whole layers: their influence, and what merging would keep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app import theme
from app.figures.similarity import OPEN, PLANNED, box, layer_ticks

GAP = 0.01  # of the bar, where the page's ground shows between two pieces
NAMED, NAMED_NARROW = 4, 2  # layers of a window whose shares a legend names; of more, the first and the last are named
DIGIT, ROOM = 0.04, 0.02  # of a bar's length in a narrow chart: what a digit takes, and what a number needs besides


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
        selected: the window that is open, outlined in the tile row; its SBI is red; the lowest ones are dotted.
        log: points on logarithmic axes instead of bars.
    """
    layers = len(block)
    colors = [theme.layer_color(layer, layers) for layer in range(layers)]
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, row_heights=[0.16, 0.42, 0.42], vertical_spacing=0.07)
    _add_tiles(figure, layers, colors, planned, selected)
    middle = np.arange(len(skip)) + (span - 1) / 2
    best = int(skip.argmin())
    ends = np.stack([np.arange(len(skip)), np.arange(len(skip)) + span - 1], axis=1)
    skip_colors = [OPEN if selected == (at, at + span - 1) else theme.CATEGORIES[4] for at in range(len(skip))]
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
    dots = {"color": theme.INK, "width": 2, "dash": "dot"}
    for at in (best, *tied(skip, skip_halves)):
        foot, top = (skip[at] / 1.2, skip[at] * 1.2) if log else (0.0, skip[at] + 0.04 * skip.max())
        figure.add_shape(box(middle[at] - 0.5, middle[at] + 0.5, foot, top, line=dots) | {"xref": "x3", "yref": "y3"})
    theme.finish(
        figure,
        finding(skip, skip_halves, span),
        height=440,
    )
    figure.update_xaxes(range=[-0.6, layers - 0.4], showgrid=False, tickvals=layer_ticks(layers - 1))
    figure.update_xaxes(title_text="Layer", row=3, col=1)
    figure.update_layout(margin={"l": 78, "b": 54})
    for name, row in (("Block influence<br>(BI)", 2), ("Skip block<br>influence (SBI)", 3)):
        figure.update_yaxes(title_text=name, nticks=4, row=row, col=1)
        if log:
            figure.update_yaxes(type="log", dtick="D2", row=row, col=1)
        else:
            figure.update_yaxes(rangemode="tozero", row=row, col=1)
    figure.update_yaxes(visible=False, range=[-0.1, 1.25], row=1, col=1)
    figure.update_layout(hovermode="closest")
    return figure


def finding(skip: np.ndarray, halves: np.ndarray | None, span: int) -> str:
    """Which window turns the state least, and which is as good as tied with it."""
    best = int(skip.argmin())
    named = [f"{first}–{first + span - 1}" for first in (best, *tied(skip, halves))]
    told = f"Layers {named[0]} turn the hidden state least: lowest SBI, by which CoMe chooses"
    if len(named) == 1:
        return told
    others = " and ".join(named[1:]) if len(named) <= 3 else f"{named[1]} and {len(named) - 2} more"
    return f"{told}; practically tied with {others}"


def tied(skip: np.ndarray, halves: np.ndarray | None) -> list[int]:
    """The windows whose SBI cannot be told from the lowest, the lowest of them first.

    They are the same to three decimals, or one half of the text has the other order: then the difference is less than
    its error.
    """
    best = int(skip.argmin())
    same = np.array([f"{each:.3f}" == f"{skip[best]:.3f}" for each in skip])
    if halves is not None:
        same |= (halves <= halves[:, [best]]).any(axis=0)
    return [int(first) for first in np.argsort(skip, kind="stable") if same[first] and first != best]


def puzzle(
    first: int,
    ratio: Sequence[float],
    kv_groups: Sequence[int],
    channels: Sequence[int],
    layers: int,
    method: str,
    named: int = NAMED,
) -> go.Figure:
    """What one merge keeps: the new layer's KV groups and FFN channels, coloured by where they come from.

    Args:
        first: the window's first layer.
        ratio: share a source layer.
        kv_groups: KV groups kept from each source layer.
        channels: FFN channels kept from each source layer.
        layers: how many layers the model has.
        method: who merges, as a title.
        named: layers at most that a legend names.
    """
    figure = go.Figure()
    rows = ["FFN channels", "KV groups"]
    begins = np.zeros(2)
    for offset, share in enumerate(ratio):
        layer = first + offset
        color = theme.layer_color(layer, layers)
        counts = [channels[offset], kv_groups[offset]]
        totals = [max(sum(channels), 1), max(sum(kv_groups), 1)]
        shares = np.divide(counts, totals)
        figure.add_trace(
            go.Bar(
                y=rows,
                base=begins + np.where(begins > 0, GAP / 2, 0),
                x=np.maximum(shares - GAP * (begins > 0) / 2 - GAP * (begins + shares < 1) / 2, shares / 2),
                orientation="h",
                name=f"layer {layer} ({share:.0%})",
                marker={"color": color, "line": {"width": 0}, "pattern": theme.dots(color, offset % 2 == 1)},
                customdata=list(zip(counts, totals, strict=True)),
                hovertemplate=f"layer {layer}: %{{customdata[0]:,d}} of %{{customdata[1]:,d}} %{{y}}<extra></extra>",
            )
        )
        for row, count, begin, part in zip(rows, counts, begins, shares, strict=True):
            if count and part >= DIGIT * len(f"{count:,}") + ROOM:  # others are told when pointed at
                _number(figure, f"{count:,}", begin + part / 2, row, color)
        begins = begins + shares
    largest = int(np.argmax(ratio))
    legend = len(ratio) <= named
    if not legend:
        _name_ends(figure, first, first + len(ratio) - 1)
    theme.finish(
        figure,
        f"{method}: {ratio[largest]:.0%} of the FFN channels from layer {first + largest}",
        height=205 + 21 * ((len(ratio) - 1) // 2) * legend,  # of the legend's rows
        legend=legend,
    )
    figure.update_layout(barmode="overlay", bargap=0.3, legend={"traceorder": "normal"})
    spelt = ["Feed-forward<br>(FFN) channels", "Key-value<br>(KV) groups"]
    figure.update_yaxes(tickvals=rows, ticktext=spelt)
    return figure.update_xaxes(range=[0, 1], tickformat=".0%", showgrid=False)


def _number(figure: go.Figure, words: str, x: float, row: str, color: str) -> None:
    """A number on a bar, on a patch of the bar's colour: dots through its digits could not be read."""
    text = f"<span style='color:{theme.ink_on(color)}'>{words}</span>"  # the page's theme colours notes otherwise
    figure.add_annotation(x=x, y=row, text=text, showarrow=False, bgcolor=color, borderpad=1, font={"size": 13})


def _name_ends(figure: go.Figure, first: int, last: int) -> None:
    """Name the first and the last layer between the two bars, where the pieces are too many for a legend."""
    for x, name, anchor in ((0, f"layer {first}", "left"), (1, f"layer {last}", "right")):
        figure.add_annotation(
            x=x, y=0.5, yref="y", text=name, showarrow=False, xanchor=anchor, font={"size": 12, "color": theme.INK}
        )


# --- inside --------------------------------------------------------------------------------------------


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
    thread = box(-0.6, layers - 0.4, 0.5, 0.5, line={"color": theme.HAIRLINE, "width": 3}, layer="below")
    shapes = [thread | {"type": "line"}]
    shapes += [
        box(first - 0.41, last + 0.41, 1.12, 1.22, fillcolor=PLANNED, line={"width": 0}) for first, last in planned
    ]
    if selected is not None:
        shapes.append(box(selected[0] - 0.5, selected[1] + 0.5, -0.08, 1.08, line={"color": OPEN, "width": 2}))
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
