"""A sentence followed through a pruned model: how far its hidden states lie from the original's, by layer and token.

Pure functions: plain values in, a plotly figure out. Pieces of text are escaped, for plotly reads markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape, unescape

import numpy as np
import plotly.graph_objects as go

from app import theme
from app.figures.playground import below_toolbar, bins, heat, quoted, token_axis
from app.formats import literal

Spans = Sequence[tuple[int, int]]


def strips(
    name: str, pieces: Sequence[str], spans: Spans, angles: Sequence[Sequence[float]], at: int, since: int = 0
) -> go.Figure:
    """A strip a layer of the pruned model, the first on top; a click gives a position as customdata[0].

    Args:
        name: the pruned model.
        pieces: what each token adds to the text.
        spans: by layer, the original's layers in whose place it is: the first, and the one after the last.
        angles: (layers, tokens), degrees from the original's state after the last of them.
        at: the chosen position.
        since: where what was asked begins, and the strips with it, behind the words of a template.
    """
    values = np.array(angles, dtype=float)[:, since:]
    middle, peaks, height = bins(values, since)
    rows = list(range(len(values)))
    text = [
        [
            f"{label(layer, spans)}<br>token {spot} {quoted(pieces[spot])}: <b>{value:.1f}°</b>"
            for spot, value in zip(spots, line, strict=True)
        ]
        for layer, (spots, line) in enumerate(zip(peaks, height, strict=True))
    ]
    bar = {"title": {"text": "Angle, degrees", "side": "right", "font": {"size": 12}}}
    figure = heat(middle, peaks, height, max(float(height.max()), 1.0), text, bar, gap=1, target=9)
    for layer in merged(spans):
        theme.outline_row(figure, layer, since - 0.5, len(pieces) - 0.5)
    figure.add_vline(x=at, line={"color": theme.MARK, "width": 1, "dash": "dot"})
    room = 128 + 15 * len(rows)
    theme.finish(figure, finding(name, spans, values), x="Token of the text", y="Layer", height=room)
    right = at > (since + len(pieces) - 1) / 2
    below_toolbar(figure, words=14).add_annotation(
        x=at,
        y=1,
        yref="paper",
        xanchor="right" if right else "left",
        yanchor="bottom",
        text=f"chosen: {quoted(pieces[at])}",
        showarrow=False,
        font={"size": 12, "color": theme.MARK},
    )
    figure.update_layout(clickmode="event+select")
    shown = sorted({0, len(rows) - 1, *merged(spans)})
    figure.update_yaxes(
        tickvals=shown, ticktext=[place(layer, spans) for layer in shown], autorange="reversed", showgrid=False
    )
    return token_axis(figure, pieces, since)


def merged(spans: Spans) -> list[int]:
    """The layers that are in the place of several."""
    return [layer for layer, (first, end) in enumerate(spans) if end - first > 1]


def place(layer: int, spans: Spans) -> str:
    """A layer, and where it is in the place of several, those: "12 ← 12-18"."""
    first, end = spans[layer]
    return f"{layer} ← {first}–{end - 1}" if end - first > 1 else str(layer)


def label(layer: int, spans: Spans) -> str:
    """A layer in words."""
    first, end = spans[layer]
    own = f"layer {first}" if end - first == 1 else f"layers {first} to {end - 1}"
    return f"Layer {layer}, in the place of the original's {own}"


def finding(name: str, spans: Spans, angles: np.ndarray) -> str:
    """Where the states of a pruned model part most from the original's."""
    steps = np.diff(angles.mean(axis=1), prepend=0.0)
    turn = int(steps.argmax())
    if float(angles.max()) < 0.05:
        return f"{escape(name, quote=False)}: its states are the original's"
    first, end = spans[turn]
    which = f"the layer for {first}–{end - 1}" if end - first > 1 else f"layer {turn}"
    at_end = float(angles[-1].mean())
    most = f"{which} turns the states most, by {steps[turn]:.1f}° on average; at the end they are {at_end:.0f}° off"
    return f"{escape(name, quote=False)}: {most}"


def at_the_end(pieces: Sequence[str], angles: Sequence[Sequence[float]], since: int = 0) -> str:
    """How far the states of the last layer lie off from a token on, and where most (markdown)."""
    last = np.array(angles[-1], dtype=float)[since:]
    spot = int(last.argmax())
    return (
        f"At the end the states are {last.mean():.1f}° off on average over {len(last)} tokens, most at "
        f"{literal(unescape(quoted(pieces[since + spot])))}: {last[spot]:.1f}°."
    )


def depths(spans: Spans) -> str:
    """What is outlined, in words; "" where no layer is in the place of several."""
    found = merged(spans)
    if not found:
        return ""
    return "Outlined: " + "; ".join(label(layer, spans).lower() for layer in found) + "."
