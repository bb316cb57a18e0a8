"""Charts of what a model is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from app import theme
from come.models.facts import Matrix

PARTS = {"attention": theme.CATEGORIES[1], "feed-forward": theme.CATEGORIES[2]}
BAR, BELOW = 46, 24  # pixels: the bar of the parameters, and the words under it
DRAWING = 150  # pixels that the tallest matrix of a layer takes
GAP = 0.035  # between two matrices, of all their widths
LONGEST_NAME = 8  # letters of a matrix's name that have room above it


def parameters_by_part(parts: dict[str, int], layers: int) -> go.Figure:
    """One bar of all parameters: embeddings, every layer in its colour, head.

    Args:
        parts: parameters by part, as in ``Facts.parameters_by_part``.
        layers: how many decoder layers the model has.
    """
    total = max(sum(parts.values()), 1)
    inside = sum(parts.get(part, 0) for part in ("attention", "feed-forward", "norms"))
    each = inside / max(layers, 1)
    cells = [("embeddings", parts.get("embeddings", 0), theme.QUIET)]
    cells += [(f"layer {layer}", each, theme.layer_color(layer, layers)) for layer in range(layers)]
    cells += [("head", parts.get("head", 0), theme.QUIET)]
    figure = go.Figure()
    for name, count, color in cells:
        figure.add_bar(
            x=[count],
            y=[""],
            orientation="h",
            marker={"color": color, "line": {"width": 0}},
            hovertemplate=f"{name}: {count:,.0f} parameters, {count / total:.1%}<extra></extra>",
            showlegend=False,
        )
    begin = parts.get("embeddings", 0)
    _name(figure, 0, "embeddings", begin / total, xanchor="left")  # centred it would be cut off on a narrow screen
    _name(figure, begin + inside / 2, f"{layers} layers", inside / total)
    _name(figure, total - parts.get("head", 0) / 2, "head", parts.get("head", 0) / total)
    theme.finish(figure, f"The {layers} layers hold {inside / total:.0%} of the parameters", height=BAR + BELOW + 62)
    figure.update_layout(barmode="stack", bargap=0, margin={"l": 4, "r": 4, "b": BELOW})
    figure.update_xaxes(range=[0, total], visible=False)
    return figure.update_yaxes(visible=False)


def one_layer(matrices: Sequence[Matrix]) -> go.Figure:
    """The weights of one layer as rectangles to scale: outputs down, inputs across; attention, then feed-forward.

    Over each part stands its share of the rectangles' area.

    Args:
        matrices: of a layer, as in ``Facts.matrices``.
    """
    widths = sum(each.inputs for each in matrices)
    total = max(sum(each.outputs * each.inputs for each in matrices), 1)
    tallest, gap = max(each.outputs for each in matrices), GAP * widths
    figure, at, ends = go.Figure(), 0.0, dict[str, tuple[float, float]]()
    for before, each in zip([None, *matrices], matrices, strict=False):
        at += gap * (0 if before is None else 1 if before.part == each.part else 2)
        figure.add_scatter(
            x=[at, at + each.inputs, at + each.inputs, at, at],
            y=[0, 0, each.outputs, each.outputs, 0],
            mode="lines",
            fill="toself",
            fillcolor=PARTS[each.part],
            line={"width": 0},
            hoveron="fills",
            hoverinfo="text",
            text=f"{each.name}: {each.outputs:,} outputs of {each.inputs:,} inputs",
            showlegend=False,
        )
        _write(figure, at + each.inputs / 2, each.outputs, _short(each.name), yanchor="bottom")
        _write(figure, at + each.inputs / 2, 0, f"{each.outputs:,}<br>× {each.inputs:,}", yanchor="top")
        first, _ = ends.get(each.part, (at, 0.0))
        at += each.inputs
        ends[each.part] = first, at
    for part, (first, last) in ends.items():
        own = sum(each.outputs * each.inputs for each in matrices if each.part == part)
        words = f"<b>{part}</b> {own / total:.0%}"
        _write(figure, (first + last) / 2, tallest, words, yanchor="bottom", yshift=18)
    theme.finish(figure, "One layer, its weights to scale", height=DRAWING + 128)
    figure.update_layout(margin={"l": 4, "r": 4, "b": 40}, hovermode="closest")
    figure.update_xaxes(range=[0, at], visible=False)
    return figure.update_yaxes(range=[0, 1.28 * tallest], visible=False)


def _name(figure: go.Figure, x: float, name: str, share: float, xanchor: str = "center") -> None:
    """A part's name under the bar, where it has room."""
    if share >= 0.08:
        _write(figure, x, -0.5, f"{name} {share:.0%}", yanchor="top", yshift=-2, xanchor=xanchor)


def _write(figure: go.Figure, x: float, y: float, words: str, **how: Any) -> None:
    figure.add_annotation(x=x, y=y, text=words, showarrow=False, font={"size": 11}, **how)


def _short(name: str) -> str:
    """A matrix's name without what all have."""
    short = name.removesuffix("_proj")
    return short if len(short) <= LONGEST_NAME else f"{short[: LONGEST_NAME - 1]}…"
