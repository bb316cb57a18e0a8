"""The puzzle: what every layer of a pruned model is made of, as ribbons from the original's layers.

Pure functions: origins in, plotly figures out. A piece is one new layer's units of one source layer, so however many
channels a model has, there are no more ribbons than layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import theme
from come.plan.provenance import Layer, Loss, Piece, Provenance
from come.plan.steps import Part
from come.report.colors import HATCH

FIRST_ATTENTION = "A window keeps its first layer's attention, however sensitive the others."  # CoMe-Joint's rule
NAMES: dict[Part, tuple[str, str]] = {"ffn": ("FFN channel", "FFN channels"), "attention": ("KV group", "KV groups")}
PATTERNS = {"kept": "", "averaged": "."}  # of pieces
LOST = "/"  # hatched is left out, here as everywhere
LOSSES = {"concatenate": "dropped", "average": "dropped", "remove": "removed with their layer", "mask": "silenced"}

_TILE = 0.82  # height of a layer, its slot being 1
_SOURCE = (0.0, 0.075)  # from left to right: the source layers, the ribbons, the new layers
_NEW = (0.86, 1.0)
_STUB = 0.26  # where what was lost ends
_CURVE = (1 - np.cos(np.linspace(0, np.pi, 14))) / 2

Line = Sequence[float | None]  # coordinates along an outline; None between two
_Arrival = tuple[int, Piece, float, float]  # new layer, piece, its upper and its lower edge there


def puzzle(origins: Provenance, selected: int | None = None) -> go.Figure:
    """The original layers on the left, the new ones on the right, ribbons for what was kept.

    A click on a layer, left or right, gives a point whose customdata is [new layer], or [-1] for a removed one.

    Args:
        origins: the part that is drawn, followed through the plan.
        selected: the new layer that is open.
    """
    layers, final = origins.layers, origins.final
    traces: list[Any] = [_stub(origins, source) for source in range(layers) if origins.losses(source)]
    arrivals = [
        arrival for place, layer in enumerate(final) for arrival in _arrivals(place, layer, layers / len(final))
    ]
    traces += [_ribbon(origins, arrival) for arrival in arrivals if arrival[1].kind != "silenced"]
    edges = [_slot(layer, 1) for layer in range(layers)]
    traces.append(_blocks(_SOURCE, edges, {"color": [theme.layer_color(layer, layers) for layer in range(layers)]}))
    edges = [(top, bottom) for _, _, top, bottom in arrivals]
    traces.append(_blocks(_NEW, edges, looks([piece for _, piece, _, _ in arrivals], layers)))
    traces += [_handles(origins), _numbers(origins, selected)]
    figure = go.Figure(traces)
    if selected is not None:
        figure.update_layout(shapes=_outline(*_slot(selected, layers / len(final))))
    theme.finish(figure, finding(origins), height=max(360, min(15 * layers + 60, 1000)))
    figure.update_xaxes(visible=False, range=[-0.06, 1.06], fixedrange=True)
    figure.update_yaxes(visible=False, range=[layers + 0.1, -1.1], fixedrange=True)
    return figure.update_layout(barmode="overlay", bargap=0, hovermode="closest", clickmode="event+select")


def finding(origins: Provenance) -> str:
    """What the puzzle shows, in a sentence."""
    final, many = origins.final, NAMES[origins.part][1]
    lost = float((origins.lost >= 0).mean())
    if "mask" in origins.steps:
        return f"{lost:.0%} of all {many} are silenced; all {len(final)} layers stay in place"
    mixed = [place for place, layer in enumerate(final) if len(sources(layer.pieces)) > 1]
    if mixed:
        most = max(len(sources(layer.pieces)) for layer in final)
        of = "two layers" if most == 2 else f"{'up to ' if len(mixed) > 1 else ''}{most} layers"
        made = f"{len(mixed)} of {len(final)} new layers {'is' if len(mixed) == 1 else 'are'} made of {of}"
        return made if origins.averaged.any() else f"{made}; {1 - lost:.0%} of all {many} live on"
    gone = origins.layers - len(final)
    if gone and any(len(layer.group) > 1 for layer in final):
        return f"The {many} of {gone} layer{'' if gone == 1 else 's'} are gone; no new layer mixes those of several"
    if gone:
        return f"{gone} layer{' is' if gone == 1 else 's are'} gone; no new layer mixes {many} of several"
    return f"All {origins.layers} layers are as they were"


def looks(pieces: Sequence[Piece], layers: int) -> dict[str, Any]:
    """Colours and patterns of bars that stand for pieces: kept solid, averaged dotted, silenced hatched grey."""
    return {
        "color": [
            theme.QUIET if piece.kind == "silenced" else theme.layer_color(piece.source, layers) for piece in pieces
        ],
        "pattern": {
            "shape": [PATTERNS.get(piece.kind, LOST) for piece in pieces],
            "fgcolor": [HATCH if piece.kind == "silenced" else "rgba(255, 255, 255, 0.5)" for piece in pieces],
            "fgopacity": 1,
            "fillmode": "overlay",
            "size": 6,
            "solidity": 0.3,
        },
    }


def sources(pieces: Sequence[Piece]) -> list[int]:
    """The original layers that a new layer has something of."""
    return [piece.source for piece in pieces if piece.kind != "silenced"]


def words(piece: Piece, origins: Provenance) -> str:
    """A piece in words, for hovering."""
    if piece.kind == "averaged":
        return f"layer {piece.source}, averaged in with weight {piece.weight:.3g}".replace("-", "−")
    if origins.units == 1:
        return f"layer {piece.source} as it was"
    amount = f"{piece.count:,} of {origins.units:,} {NAMES[origins.part][1]} ({piece.share:.0%})"
    return (
        f"{amount} silenced: their weights are zero"
        if piece.kind == "silenced"
        else f"{amount} from layer {piece.source}"
    )


def lost_words(source: int, losses: Sequence[Loss], origins: Provenance) -> str:
    """What a source layer lost, a line a step."""
    lines = [f"Layer {source}:"]
    for loss in losses:
        whole = loss.kind == "remove" and loss.count == origins.units
        amount = f"{loss.count:,} of {origins.units:,} {NAMES[origins.part][1]} {LOSSES[loss.kind]}"
        lines.append(f"{'removed whole' if whole else amount} at step {loss.step + 1}")
    return "<br>".join(lines)


def area(
    xs: Line | np.ndarray,
    ys: Line | np.ndarray,
    color: str,
    text: str,
    *,
    fill: str,
    pattern: str = "",
    outline: float = 0,
) -> dict[str, Any]:
    """Filled outlines as one trace, which says ``text`` wherever it is hovered; as data, since there are many."""
    look = {"shape": pattern, "size": 6, "solidity": 0.35, "fgcolor": color, "bgcolor": "rgba(0,0,0,0)"}
    return {
        "type": "scatter",
        "x": xs,
        "y": ys,
        "mode": "lines",
        "line": {"width": outline, "color": color},
        "fill": "toself",
        "fillcolor": fill,
        "fillpattern": look if pattern else None,
        "hoveron": "fills",
        "text": text,
        "hoverinfo": "text",
        "showlegend": False,
    }


def listed(names: Sequence[object]) -> str:
    """[3, 4, 7] -> "3, 4 and 7"."""
    texts = [str(name) for name in names]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"


# --- inside --------------------------------------------------------------------------------------------


def _slot(place: float, pitch: float) -> tuple[float, float]:
    """Upper and lower edge of a layer, where layers lie ``pitch`` slots apart."""
    middle = (place + 0.5) * pitch
    return middle - _TILE / 2, middle + _TILE / 2


def _arrivals(place: int, layer: Layer, pitch: float) -> list[_Arrival]:
    """The pieces of a new layer with their edges."""
    top, _ = _slot(place, pitch)
    found: list[_Arrival] = []
    for piece in layer.pieces:
        found.append((place, piece, top, top + _TILE * piece.share))
        top += _TILE * piece.share
    return found


def _ribbon(origins: Provenance, arrival: _Arrival) -> dict[str, Any]:
    place, piece, top, bottom = arrival
    source_top, source_bottom = _slot(piece.source, 1)
    if piece.kind == "kept":
        source_bottom = source_top + _TILE * piece.count / origins.units
    xs = np.linspace(_SOURCE[1], _NEW[0], len(_CURVE))
    upper, lower = (start + (end - start) * _CURVE for start, end in ((source_top, top), (source_bottom, bottom)))
    color = theme.layer_color(piece.source, origins.layers)
    untouched = origins.final[place].group == (piece.source,)
    return area(
        np.concatenate([xs, xs[::-1]]).round(4),
        np.concatenate([upper, lower[::-1]]).round(4),
        color,
        f"{words(piece, origins)}<br>to new layer {place}",
        fill=theme.faded(color, 0.28 if untouched else 0.62),
        pattern=PATTERNS["averaged"] if piece.kind == "averaged" else "",
    )


def _stub(origins: Provenance, source: int) -> dict[str, Any]:
    """What was lost of a source layer: a hatched wedge that ends on the way."""
    losses = origins.losses(source)
    _, bottom = _slot(source, 1)
    top = bottom - _TILE * sum(loss.count for loss in losses) / origins.units
    middle, tip = (top + bottom) / 2, (bottom - top) * 0.22
    left, right = _SOURCE[1], _STUB
    xs, ys = [left, right, right, left, left], [top, middle - tip, middle + tip, bottom, top]
    return area(xs, ys, HATCH, lost_words(source, losses, origins), fill=theme.QUIET, pattern=LOST, outline=1)


def _blocks(sides: tuple[float, float], edges: list[tuple[float, float]], marker: dict[str, Any]) -> go.Bar:
    """Rectangles between two sides, at (top, bottom) each."""
    return go.Bar(
        orientation="h",
        base=[sides[0]] * len(edges),
        x=[sides[1] - sides[0]] * len(edges),
        y=[(top + bottom) / 2 for top, bottom in edges],
        width=[bottom - top for top, bottom in edges],
        marker={**marker, "line": {"width": 0}},
        selected={"marker": {"opacity": 1}},
        unselected={"marker": {"opacity": 1}},
        hoverinfo="skip",
        showlegend=False,
    )


def _outline(top: float, bottom: float) -> list[dict[str, Any]]:
    """A frame round the open layer: two lines, so that it shows on pieces of any colour."""
    sides = {"type": "rect", "x0": _NEW[0], "x1": _NEW[1], "y0": top - 0.05, "y1": bottom + 0.05}
    return [{**sides, "line": {"color": color, "width": width}} for color, width in ((theme.MARK, 5), ("#ffffff", 1.5))]


def _handles(origins: Provenance) -> go.Scatter:
    """Transparent points over all layers, left and right, which carry hover and clicks."""
    count, home = len(origins.final), [origins.new_layer_of(source) for source in range(origins.layers)]
    pitch = origins.layers / count
    points = [(sum(_SOURCE) / 2, source + 0.5, -1 if new is None else new) for source, new in enumerate(home)]
    names = [_source_words(source, origins, new) for source, new in enumerate(home)]
    for place, layer in enumerate(origins.final):
        spread = np.linspace(*_NEW, 7)[1:-1]
        points += [(float(x), (place + 0.5) * pitch, place) for x in spread]
        lines = [f"New layer {place}:", *(words(piece, origins) for piece in layer.pieces)]
        names += ["<br>".join(lines)] * len(spread)
    return go.Scatter(
        x=[x for x, _, _ in points],
        y=[y for _, y, _ in points],
        mode="markers",
        marker={"size": 17, "opacity": 0, "symbol": "square"},
        selected={"marker": {"opacity": 0}},
        unselected={"marker": {"opacity": 0}},
        customdata=[[place] for _, _, place in points],
        text=names,
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _source_words(source: int, origins: Provenance, new: int | None) -> str:
    losses = origins.losses(source)
    if not losses:
        way = "averaged into" if origins.averaged[source].any() else "whole in"
        return f"Layer {source}: {way} new layer {new}"
    kept = int(origins.kept(source).sum())
    lines = lost_words(source, losses, origins)
    return f"{lines}<br>{kept:,} in new layer {new}" if kept else lines


def _numbers(origins: Provenance, selected: int | None) -> go.Scatter:
    """The layers' numbers, and over them what the columns are."""
    layers, count = origins.layers, len(origins.final)
    texts = ["Original", "New", *map(str, range(layers))]
    texts += [f"<b>{place}</b>" if place == selected else str(place) for place in range(count)]
    return go.Scatter(
        x=[_SOURCE[0], _NEW[1], *[-0.012] * layers, *[1.012] * count],
        y=[-0.55, -0.55, *np.arange(layers) + 0.5, *(np.arange(count) + 0.5) * (layers / count)],
        mode="text",
        text=texts,
        textposition=["middle right", "middle left", *["middle left"] * layers, *["middle right"] * count],
        textfont={"size": 12, "color": theme.INK},
        selected={"textfont": {"color": theme.INK}},
        unselected={"textfont": {"color": theme.INK}},
        hoverinfo="skip",
        showlegend=False,
    )
