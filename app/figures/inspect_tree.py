"""The merge tree: how the original's layers became the new ones, step by step.

Pure functions: origins in, a plotly figure out. A trunk is a layer, split into its sources by their shares; where
trunks join, each of them gives up what the merge dropped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import theme
from app.figures.inspect import LOST, NAMES, PATTERNS, area
from app.formats import ranges
from come.plan.provenance import Layer, Provenance
from come.report.colors import HATCH

_WIDTH = 0.72  # of a trunk, layers being 1 apart
_JOIN = 0.55  # how far below a step trunks begin to lean towards it
_OVERLAP = 0.004
_LONGEST_LINE = 52  # letters of a hover's line
_IN_PLACE = ("replace", "scale")  # steps that change weights and leave every layer where it stands

Quad = tuple[float, float, float, float, float, float]  # x from, to at one end; at the other; y from, to
Quads = dict[tuple[int, str], list[Quad]]  # by source and kind of piece
End = tuple[float, float, int]


def tree(origins: Provenance, steps: Sequence[str], rewritten: Sequence[Sequence[int]] = ()) -> go.Figure:
    """All states of the model, from the original (above) to the pruned one (below).

    Args:
        origins: the part by which trunks are split, followed through the plan.
        steps: each step in words.
        rewritten: for each step, the layers after it whose weights it changed.
    """
    centers = _centers(origins.states)
    quads, ends = _branches(origins.states, centers)
    untouched = {layer.group[0] for layer in origins.final if _whole(layer)}
    shapes = [_shapes(key, found, origins.layers, key[0] in untouched) for key, found in sorted(quads.items())]
    count = len(steps)
    numbers = [_numbers(centers[-1], count + 0.62, origins.layers), _numbers(centers[0], -0.28, origins.layers)]
    figure = go.Figure([*shapes, _marks(origins, centers, ends, steps), *numbers])
    figure.update_layout(shapes=_rewritten_marks(centers, rewritten))
    theme.finish(figure, finding(origins), y="Step", height=round(min(140 + 40 * count, 620)))
    figure.update_xaxes(range=[-0.8, origins.layers - 0.2], visible=False, fixedrange=True)
    figure.update_yaxes(
        range=[count + 0.95, -0.6],
        showgrid=False,
        tickvals=list(range(1, count + 1)),
        fixedrange=True,
    )
    return figure.update_layout(hovermode="closest")


def finding(origins: Provenance) -> str:
    """What the tree shows, in a sentence."""
    final = origins.final
    steps = [kind for kind in origins.steps if kind not in ("replace", "scale")]  # which move no layer
    if not steps:
        return "The plan has no steps"
    joins = [kind for kind in steps if kind in ("concatenate", "average")]
    if len(final) == origins.layers:
        return f"All {len(final)} layers stay, over {len(steps)} step{'' if len(steps) == 1 else 's'}"
    count = len(origins.steps)
    where = f"{origins.layers} layers become {len(final)} in {count} step{'' if count == 1 else 's'}"
    if others := count - len(steps):
        where += f" ({others} only change{'s' if others == 1 else ''} weights)"
    most = max(final, key=lambda layer: len(layer.group)).group
    if not joins or len(joins) < len(steps):
        return where
    if len(most) == 2 and others:
        return f"{where}; each merge joins a pair"
    if len(most) == 2:
        return f"{where}, each of which joins a pair" if len(steps) > 1 else f"{where}, which joins a pair"
    again = len(joins) > sum(len(layer.group) > 1 for layer in final)
    return f"{where}; layers {ranges(most)} end in one{', merged more than once' if again else ''}"


# --- inside --------------------------------------------------------------------------------------------


def _centers(states: Sequence[Sequence[Layer]]) -> list[list[float]]:
    """Where each layer of each state stands: original layers at their number, merged ones between their parents."""
    centers = [[float(place) for place in range(len(states[0]))]]
    for state in states[1:]:
        before = centers[-1]
        centers.append([float(np.mean([before[parent] for parent in layer.parents])) for layer in state])
    return centers


def _branches(states: Sequence[Sequence[Layer]], centers: list[list[float]]) -> tuple[Quads, list[End]]:
    """The parts of all trunks by source and kind, and where trunks end: (x, y, step)."""
    quads: Quads = {}
    ends: list[End] = []
    for number, state in enumerate(states[:-1]):
        child_of = {parent: child for child, layer in enumerate(states[number + 1]) for parent in layer.parents}
        for place, layer in enumerate(state):
            x, child = centers[number][place], child_of.get(place)
            joined = states[number + 1][child] if child is not None else None
            if joined is not None and len(joined.parents) == 1:
                _add_trunk(quads, layer, x, number, number + 1 + _OVERLAP)
                continue
            bend = number + 1 - _JOIN
            _add_trunk(quads, layer, x, number, bend + _OVERLAP)
            if child is None or joined is None:
                ends.append((x, bend, number))
            else:
                _add_lean(quads, layer, x, joined, centers[number + 1][child], bend, number + 1)
    last = len(states) - 1
    for layer, x in zip(states[last], centers[last], strict=True):
        _add_trunk(quads, layer, x, last, last + 0.35)
    return quads, ends


def _spans(layer: Layer, x: float) -> list[tuple[int, str, float, float]]:
    """The pieces of a trunk side by side: source, kind, left, right."""
    spans, left = [], x - _WIDTH / 2
    for piece in layer.pieces:
        spans.append((piece.source, piece.kind, left, left + _WIDTH * piece.share))
        left += _WIDTH * piece.share
    return spans


def _add_trunk(quads: Quads, layer: Layer, x: float, low: float, high: float) -> None:
    for source, kind, left, right in _spans(layer, x):
        quads.setdefault((source, kind), []).append((left, right, left, right, low, high))


def _add_lean(
    quads: Quads,
    layer: Layer,
    x: float,
    merged: Layer,
    merged_x: float,
    low: float,
    high: float,
) -> None:
    """What a merge takes of a layer, from the end of its trunk to its place in the merged one's."""
    arriving = {source: (kind, left, right) for source, kind, left, right in _spans(merged, merged_x)}
    for source, _, left, right in _spans(layer, x):
        if source in arriving:
            kind, to_left, to_right = arriving[source]
            quads.setdefault((source, kind), []).append((left, right, to_left, to_right, low, high))
        else:
            middle = (left + right) / 2  # nothing of it is kept: it ends in a point
            quads.setdefault((-1, "lost"), []).append((left, right, middle, middle, low, low + (high - low) * 0.6))


def _whole(layer: Layer) -> bool:
    """Whether a layer is one of the original's as it was."""
    return len(layer.group) == 1 and [piece.kind for piece in layer.pieces] == ["kept"]


def _shapes(key: tuple[int, str], quads: list[Quad], layers: int, untouched: bool) -> dict[str, Any]:
    """All the parts of one source as one trace; pale if no step touches it."""
    source, kind = key
    xs: list[float | None] = []
    ys: list[float | None] = []
    for left, right, to_left, to_right, low, high in quads:
        xs += [round(each, 4) for each in (left, right, to_right, to_left, left)] + [None]
        ys += [round(each, 4) for each in (low, low, high, high, low)] + [None]
    color = HATCH if source < 0 else theme.layer_color(source, layers)
    names = {"kept": f"layer {source}", "averaged": f"layer {source}, averaged", "silenced": "silenced"}
    fill = theme.faded(color, 0.28) if untouched else color
    return area(xs[:-1], ys[:-1], color, names.get(kind, "dropped whole"), fill=fill, pattern=PATTERNS.get(kind, LOST))


def _marks(origins: Provenance, centers: list[list[float]], ends: list[End], steps: Sequence[str]) -> go.Scatter:
    """A mark on every merge, a cross where a layer ends, both with the step in words."""
    points: list[tuple[float, float, str, str, int]] = []
    for number, state in enumerate(origins.states[1:]):
        kind = origins.steps[number]
        for place, layer in enumerate(state):
            before = origins.states[number]
            if len(layer.parents) > 1 or (kind == "mask" and layer.pieces != before[layer.parents[0]].pieces):
                symbol = {"average": "diamond", "mask": "square"}.get(kind, "circle")
                text = f"{steps[number]}<br>{_composition(layer, origins)}"
                points.append((centers[number + 1][place], number + 1.0, symbol, text, number))
        if kind in _IN_PLACE:
            points.append((-0.6, number + 1.0, "triangle-right", steps[number], number))
    points += [(x, y + 0.08, "x", steps[number], number) for x, y, number in ends]
    return go.Scatter(
        x=[x for x, *_ in points],
        y=[y for _, y, *_ in points],
        mode="markers",
        marker={
            "symbol": [symbol for _, _, symbol, _, _ in points],
            "size": [9 if symbol == "x" else 10 for _, _, symbol, _, _ in points],
            "color": [HATCH if symbol == "x" else "#ffffff" for _, _, symbol, _, _ in points],
            "line": {"color": "#10151d", "width": [0 if symbol == "x" else 1.5 for _, _, symbol, _, _ in points]},
        },
        text=[f"Step {number + 1}: {_wrapped(text)}" for _, _, _, text, number in points],
        hovertemplate="%{text}<extra></extra>",
        showlegend=False,
    )


def _rewritten_marks(centers: list[list[float]], rewritten: Sequence[Sequence[int]]) -> list[dict[str, Any]]:
    """A dotted line across each layer whose weights a step changed."""
    line = {"color": theme.INK, "width": 2, "dash": "dot"}
    return [
        {"type": "line", "x0": x - 0.5, "x1": x + 0.5, "y0": y, "y1": y, "line": line}
        for y, layers in enumerate(rewritten, start=1)
        for x in (centers[y][layer] for layer in layers)
    ]


def _composition(layer: Layer, origins: Provenance) -> str:
    """A merged layer in words: its sources with their shares of the part."""
    shares = [
        ("silenced" if piece.kind == "silenced" else f"layer {piece.source}") + f" {piece.share:.0%}"
        for piece in layer.pieces
    ]
    return f"{NAMES[origins.part][1]}: {', '.join(shares)}"


def _wrapped(text: str) -> str:
    lines = []
    for part in text.split("<br>"):
        line = ""
        for word in part.split():
            if line and len(line) + len(word) > _LONGEST_LINE:
                lines.append(line)
                line = ""
            line = f"{line} {word}".strip()
        lines.append(line)
    return "<br>".join(lines)


def _numbers(xs: Sequence[float], y: float, layers: int) -> go.Scatter:
    """The layers' numbers, less those that would run into their neighbours on a phone."""
    shown, last = [], -float(layers)
    for place, x in enumerate(xs):
        fits = x - last >= layers / 26
        shown.append(str(place) if fits else "")
        last = x if fits else last
    return go.Scatter(
        x=list(xs),
        y=[y] * len(xs),
        mode="text",
        text=shown,
        textfont={"size": 11, "color": theme.INK},
        hoverinfo="skip",
        showlegend=False,
        cliponaxis=False,
    )
