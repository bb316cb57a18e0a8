"""How alike the hidden states before and after a window of layers are, as a heatmap: a cell a window."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import theme

_INK, _HALO = "#10151d", "rgba(255, 255, 255, 0.85)"  # outlines that show on every colour of the scale
PLANNED, OPEN = theme.ACCENT, theme.MARK  # a window of the plan and the one that is open, in every chart of layers
KINDS = {  # its name in a chart, its whole name, and what it is
    "cosine": ("cosine", "Cosine", "mean cosine of the angle between them"),
    "angular": ("angle / π", "Angle", "mean angle between them, divided by π"),
    "cka": ("CKA", "Kernel alignment (CKA)", "linear centred kernel alignment (CKA)"),
}
TOP, BOTTOM = 34, 54  # pixels around the plot
STRIP, TILES, GAPS = 60, 16, 12  # pixels of block influence, of the layers' tiles, and between the parts
READING = (
    "A cell is a window of layers:<br>its row the first, its column the last.<br>"
    "<b>Brighter: less change.</b><br>Colours go by rank."
)
MOST_NAMED = 3  # windows in a title
RING = 0.4  # of a cell: how far one mark lies outside another


def similarity(
    matrix: np.ndarray,
    *,
    kind: str = "cosine",
    influence: np.ndarray | None = None,
    best: Sequence[tuple[int, int]] = (),
    selected: tuple[int, int] | None = None,
    planned: Sequence[tuple[int, int]] = (),
    plan: str = "your plan",
    height: int = 500,
) -> go.Figure:
    """How alike the state before and after each window is; along its upper edge, what each layer does to it.

    The cell in row i and column j is the window of layers i .. j: it compares H^(i), which enters the first of them,
    with H^(j + 1), which leaves the last. So a window has one cell, under the tile of its last layer.
    A transparent scatter on top carries hover and clicks; its points' customdata is [first layer, last layer, value].

    Args:
        matrix: (layers + 1, layers + 1), between the states at the layers' borders.
        kind: "cosine", "angular" or "cka".
        influence: (layers,) BI of each layer; None: no strip is drawn.
        best: the window (first, last) that changes the state least by this measure, and those that are practically
            tied with it, outlined by dots.
        selected: the window that is open, in red.
        planned: windows of the plan, in blue; `plan` is what it is called.
        height: pixels.
    """
    layers = len(matrix) - 1
    first, last = np.triu_indices(layers)
    values = np.full((layers, layers), np.nan)
    values[first, last] = matrix[first, last + 1]
    levels, ticks, labels = _levels(values, kind)
    share = _shares(height)
    figure = go.Figure(
        go.Heatmap(
            z=levels,
            zmin=0,
            zmax=255,
            colorscale=theme.sequential(),
            hoverinfo="skip",
            xgap=1 if layers < 60 else 0,
            ygap=1 if layers < 60 else 0,
            colorbar={
                "title": {"text": KINDS[kind][0], "side": "top", "font": {"size": 11}},
                "tickvals": ticks,
                "ticktext": labels,
                "thickness": 10,
                "outlinewidth": 0,
                "tickfont": {"size": 11},
                "len": share[0],
                "y": 0,
                "yanchor": "bottom",
            },
        )
    )
    figure.add_trace(
        go.Scatter(
            x=last,
            y=first,
            mode="markers",
            marker={"size": 16, "opacity": 0, "symbol": "square"},
            selected={"marker": {"opacity": 0}},
            unselected={"marker": {"opacity": 0}},
            customdata=np.stack([first, last, values[first, last]], axis=1),
            text=[_named(*window) for window in zip(first, last, strict=True)],
            hovertemplate=f"%{{text}}: {KINDS[kind][0]} %{{customdata[2]:.4f}}<extra></extra>",
            showlegend=False,
        )
    )
    shapes = []  # of one cell each lies round the others
    for window in best:
        shapes += _outline(window, _INK, 1.5, dash="dot")
    for window in planned:
        shapes += _outline(window, PLANNED, 2.5, round_it=RING * (window in best))
    if selected is not None and selected[0] < selected[1]:
        inside = (selected in best) + (selected in planned)
        shapes += _outline(selected, OPEN, 2.5, round_it=RING * max(inside, 1))
    if influence is not None:
        shapes += _add_strip(figure, influence, planned, selected)
    figure.update_layout(shapes=shapes)  # at once: plotly looks at all that are there for each that is added
    theme.finish(
        figure,
        finding(values, kind, best),
        x="Last layer of the window",
        y="First layer",
        height=height,
        colorbar=True,
    )
    whole = {"showgrid": False, "tickvals": layer_ticks(layers - 1), "ticks": ""}
    figure.update_xaxes(range=[-0.5, layers - 0.5], **whole)
    figure.update_layout(yaxis={"range": [layers - 0.5, -0.5], **whole})
    least = f"least change of {_whole(*best[0])}" if best else ""
    is_open = selected is not None and selected[0] < selected[1]
    marks = [(OPEN, "□", "open window", is_open), (PLANNED, "□", plan, planned), (theme.INK, "⬚", least, best)]
    _say_how_to_read(figure, [(color, mark, words) for color, mark, words, drawn in marks if drawn])
    if influence is not None:
        _lay_out_strip(figure, influence, share)
    figure.update_layout(clickmode="event+select", hovermode="closest")
    return figure


def least_changed(
    matrix: np.ndarray, kind: str, size: int, tied_by_angle: Collection[int] = ()
) -> list[tuple[int, int]]:
    """The window of so many layers that changes the state least by this measure, and those practically tied with it.

    Args:
        matrix: that of `similarity`.
        kind: the measure. Tied is what is the same to three decimals.
        size: layers of a window.
        tied_by_angle: first layers of windows whose angles cannot be told apart: nor can their cosines.
    """
    first = np.arange(len(matrix) - size)
    values = matrix[first, first + size]
    order = np.argsort(values if kind == "angular" else -values, kind="stable")
    same = {int(at) for at in order if f"{values[at]:.3f}" == f"{values[order[0]]:.3f}"}
    if kind != "cka" and int(order[0]) in tied_by_angle:
        same |= set(tied_by_angle)
    return [(int(at), int(at) + size - 1) for at in order if int(at) in same]


def finding(values: np.ndarray, kind: str, best: Sequence[tuple[int, int]]) -> str:
    """Which windows change the state least; ``values`` are (first layer, last layer)."""
    if not best:
        return "How much each window of layers changes the state"
    name, whole = KINDS[kind][0], _whole(*best[0])
    if len(best) == 1:
        return f"Of {whole}, {best[0][0]}–{best[0][1]} changes the state least: {name} {values[best[0]]:.3f}"
    each = _of_each([float(values[window]) for window in best])
    if len(best) > MOST_NAMED:
        return f"Of {whole}, {len(best)} change the state least, practically tied: {name} {each}"
    named = [f"{first}–{last}" for first, last in best]
    return f"Of {whole}, {', '.join(named[:-1])} and {named[-1]} change the state least: {name} {each}"


def _of_each(tied: Sequence[float]) -> str:
    """Values that are practically the same, to as many decimals as they share."""
    for decimals in (3, 2):
        rounded = {f"{value:.{decimals}f}" for value in tied}
        if len(rounded) == 1:
            return f"{rounded.pop()} each"
    return f"{min(tied):.3f} to {max(tied):.3f}"


def _whole(first: int, last: int) -> str:
    """What a window is one of: a longer one changes more, and a single layer less."""
    return "all pairs" if last == first + 1 else f"windows of {last - first + 1} layers"


def _say_how_to_read(figure: go.Figure, marks: Sequence[tuple[str, str, str]]) -> None:
    """In the corner where no window is, none ends before it begins: what the outlines mean, then what a cell is."""
    look = "color:{}; font-size:1.5em; font-weight:bold"
    named = [f"<span style='{look.format(color)}'>{mark}</span> {words}" for color, mark, words in marks]
    figure.add_annotation(
        text="<br>".join([*named, "", READING]),
        x=0.02,
        xref="paper",
        xanchor="left",
        y=0.02,
        yref="paper",
        yanchor="bottom",
        align="left",
        showarrow=False,
        font={"size": 12, "color": theme.INK},
    )


def _shares(height: int) -> tuple[float, float, float, float]:
    """Where the parts end, as shares of the plot from below: the matrix, then the tiles' two ends, then the strip."""
    plot = height - TOP - BOTTOM
    strip = 1 - STRIP / plot
    tiles = strip - GAPS / plot
    return tiles - (TILES + GAPS / 2) / plot, tiles - TILES / plot, tiles, strip


def _add_strip(
    figure: go.Figure,
    influence: np.ndarray,
    planned: Sequence[tuple[int, int]],
    selected: tuple[int, int] | None,
) -> list[dict[str, Any]]:
    """Block influence and the layers' tiles along the upper edge; the shapes over them."""
    layers = len(influence)
    colors = [theme.layer_color(layer, layers) for layer in range(layers)]
    places = np.arange(layers)
    hover = "Layer %{customdata}: BI = %{y:.4f}<extra></extra>"
    figure.add_trace(
        go.Scatter(
            x=places,
            y=influence,
            yaxis="y2",
            mode="markers",
            marker={"color": colors, "size": 7 if layers < 50 else 5},
            customdata=places,
            hovertemplate=hover,
            showlegend=False,
        )
    )
    figure.add_trace(
        go.Bar(
            x=places,
            y=np.ones(layers),
            yaxis="y3",
            width=0.86,
            marker={"color": colors, "line": {"width": 0}},
            customdata=places,
            hovertemplate="Layer %{customdata}<extra></extra>",
            showlegend=False,
        )
    )
    over = {"yref": "y3", "line": {"width": 0}}
    shapes = [
        box(first - 0.4, last + 0.4, 1.15, 1.5, fillcolor=PLANNED) | over for first, last in planned
    ]  # as on the strip of the page: joined
    if selected is not None and selected[0] < selected[1]:
        line = {"color": OPEN, "width": 2}
        shapes.append(box(selected[0] - 0.5, selected[1] + 0.5, -0.1, 1.1, line=line) | {"yref": "y3"})
    return shapes


def _lay_out_strip(figure: go.Figure, influence: np.ndarray, share: tuple[float, float, float, float]) -> None:
    low, high = float(influence.min()), float(influence.max())
    low = max(low, high * 1e-6, 1e-12)
    powers = [10.0**power for power in range(-12, 1)]
    marks = (
        powers if sum(low / 2 <= mark <= 2 * high for mark in powers) > 1 else [*powers, *(3 * mark for mark in powers)]
    )
    figure.update_layout(
        margin={"t": TOP + theme.title_room(figure.layout.title.text), "b": BOTTOM},
        yaxis={"domain": [0, share[0]]},
        yaxis2={
            "domain": [share[3], 1],
            "type": "log",
            "range": [np.log10(low) - 0.15, np.log10(max(high, low)) + 0.15],
            "tickvals": marks,
            "ticktext": [f"{mark:g}" for mark in marks],
            "tickfont": {"size": 11},
            "zeroline": False,
        },
        yaxis3={"domain": [share[1], share[2]], "visible": False, "range": [-0.1, 1.55]},
    )
    figure.add_annotation(
        text="Change by each layer: block influence (BI)",
        x=0,
        xref="paper",
        xanchor="left",
        y=1,
        yref="paper",
        yanchor="bottom",
        yshift=4,
        showarrow=False,
        font={"size": 11, "color": theme.INK},
    )


STEPS = 64  # of the colour scale, each holding as many cells


def _levels(values: np.ndarray, kind: str) -> tuple[np.ndarray, list[float], list[str]]:
    """Colour levels 0..255, brighter for more alike, and the colour bar's ticks in true values; NaN has no colour.

    The scale is stretched over the values that are there: its steps hold as many cells each.
    """
    apart = values[~np.isnan(values)]
    known, begins, counts = np.unique(
        np.quantile(apart, np.linspace(0, 1, STEPS + 1)), return_index=True, return_counts=True
    )
    middles = begins + (counts - 1) / 2  # equal values share a step
    places = (middles - middles[0]) / max(middles[-1] - middles[0], 1)
    places = 1 - places if kind == "angular" else places
    levels = np.round(np.interp(values, known, places) * 255).astype(np.float32)
    marks = np.unique(np.quantile(apart, np.linspace(0, 1, 5)))
    ticks = [float(place) for place in np.interp(marks, known, places) * 255]
    return levels, ticks, _apart(marks)


def _apart(marks: np.ndarray) -> list[str]:
    """Numbers in as few digits as tell them apart, two at least."""
    for digits in range(2, 7):
        labels = [f"{mark:.{digits}f}" for mark in marks]
        if len(set(labels)) == len(labels):
            break
    return labels


def _named(first: int, last: int) -> str:
    return f"Layer {first} alone" if first == last else f"Layers {first}–{last}"


def _outline(
    window: tuple[int, int], color: str, width: float, dash: str = "solid", round_it: float = 0.0
) -> list[dict[str, Any]]:
    """Marks of a window's cell; `round_it` is how far outside, in cells."""
    first, last = window
    away = 0.5 + round_it
    lines = ({"color": _HALO, "width": width + 2}, {"color": color, "width": width, "dash": dash})
    return [box(last - away, last + away, first - away, first + away, line=line) for line in lines]


def box(x0: float, x1: float, y0: float, y1: float, **looks: Any) -> dict[str, Any]:
    """A rectangle in data coordinates, as plotly's shape."""
    return {"type": "rect", "x0": x0, "x1": x1, "y0": y0, "y1": y1, "xref": "x", "yref": "y", **looks}


def layer_ticks(last: int) -> list[int]:
    """Round numbers of layers, from 0 to the last, at most 9 or so."""
    step = next(step for step in (1, 2, 5, 10, 20, 50) if last / step <= 8 or step == 50)
    return list(range(0, last + 1, step))
