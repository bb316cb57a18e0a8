"""Models along a text: where a pruned one departs from the original, and what each expects next.

Pure functions: plain values in, a plotly figure out. Pieces of text are escaped, for plotly and the page read markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
import plotly.graph_objects as go

from app import theme
from app.formats import literal

MAX_BINS = 240  # columns of the strip: more tokens share one, which shows the largest of them
TICKS = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
APART = 0.3  # of the colour bar's height: ticks nearer than that would lie on one another where one model is shown
TOOLBAR = 26  # pixels above the plot that plotly's toolbar takes


def strip(pieces: Sequence[str], kl: dict[str, Sequence[float]], at: int, since: int = 0) -> go.Figure:
    """KL divergence after each token of a text, a row a pruned model; a click gives a position as customdata[0].

    Args:
        pieces: what each token adds to the text.
        kl: by name, nats after each token.
        at: the chosen position.
        since: where what was asked begins, and the strip with it, behind the words of a template.
    """
    names = list(kl)
    values = np.array([kl[name] for name in names], dtype=float)[:, since:]  # (models, tokens)
    middle, peaks, height = bins(values, since)
    rows = list(range(len(names)))
    top = max(float(values.max()), 0.01)
    ticks = bar_ticks(top)
    text = [
        [
            f"{_escaped(name)}<br>after token {spot} {quoted(pieces[spot])}: <b>{value:.3g} nats</b>"
            for spot, value in zip(spots, line, strict=True)
        ]
        for name, spots, line in zip(names, peaks, height, strict=True)
    ]
    bar = {
        "title": {"text": "KL, nats", "side": "right", "font": {"size": 12}},
        "tickvals": [tick**0.5 for tick in ticks],
        "ticktext": [f"{tick:g}" for tick in ticks],
    }
    even = np.sqrt(height)  # an even step from small to large: most of a text differs little
    figure = heat(middle, peaks, even, float(np.sqrt(top)), text, bar, gap=3, target=16)
    figure.add_shape(
        type="rect", x0=at - 0.5, x1=at + 0.5, y0=-0.5, y1=len(names) - 0.5, line={"color": theme.MARK, "width": 2}
    )
    theme.finish(figure, finding(pieces, kl, since), x="Token of the text", height=128 + 34 * len(names))
    below_toolbar(figure).update_layout(clickmode="event+select")
    figure.update_yaxes(
        tickvals=rows, ticktext=[_wrapped(name) for name in names], autorange="reversed", showgrid=False
    )
    return token_axis(figure, pieces, since)


def bar_ticks(top: float) -> list[float]:
    """Round values from 0 to the top of a colour bar that grows with their root, as far apart as their words need."""
    kept: list[float] = []
    above = 1.0 + APART
    for tick in reversed([tick for tick in TICKS if tick <= top]):
        height = (tick / top) ** 0.5
        if APART <= height <= above - APART:
            kept, above = [tick, *kept], height
    return [0.0, *kept]


def below_toolbar(figure: go.Figure, words: int = 0) -> go.Figure:
    """Move a figure's plot down, so that plotly's toolbar lies above it, and above words of that many pixels."""
    room = TOOLBAR + words
    return figure.update_layout(margin_t=figure.layout.margin.t + room, height=figure.layout.height + room)


def heat(
    middle: np.ndarray,
    peaks: np.ndarray,
    height: np.ndarray,
    highest: float,
    text: list[list[str]],
    bar: dict[str, Any],
    *,
    gap: int,
    target: int,
) -> go.Figure:
    """Rows of cells, (rows, columns), as `bins` cuts them; a click on one gives its token as customdata[0].

    Args:
        middle, peaks, height: see `bins`; highest: the height that has the brightest colour.
        text: what a cell says. bar: of the colours.
        gap: pixels between rows. target: pixels that a click may miss a cell's middle by, twice.
    """
    rows = list(range(len(height)))
    grid_x, grid_y = np.meshgrid(middle, rows)
    cells = go.Heatmap(
        x=middle,
        y=rows,
        z=height,
        zmin=0,
        zmax=highest,
        colorscale=theme.sequential(),
        colorbar={**bar, "thickness": 10, "outlinewidth": 0, "ypad": 0},
        xgap=1 if len(middle) < 120 else 0,
        ygap=gap,
        text=text,
        hovertemplate="%{text}<extra></extra>",
    )
    clicks = go.Scattergl(  # a heatmap tells of no clicks
        x=grid_x.ravel(),
        y=grid_y.ravel(),
        customdata=peaks.reshape(-1, 1),
        mode="markers",
        marker={"size": target, "opacity": 0},
        hoverinfo="none",
        showlegend=False,
    )
    return go.Figure([cells, clicks])


def bins(values: np.ndarray, since: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values by token, (rows, tokens), in no more columns than a screen has room for, each its largest.

    The first of these tokens is number ``since`` of its text.

    Returns:
        the middles of the columns, (columns,), the token of each largest value and the value, (rows, columns).
    """
    tokens = values.shape[1]
    edges = np.unique(np.linspace(0, tokens, min(tokens, MAX_BINS) + 1).round().astype(int))
    peaks = np.array([[start + int(row[start:end].argmax()) for start, end in _pairs(edges)] for row in values])
    return (edges[:-1] + edges[1:] - 1) / 2 + since, peaks + since, np.take_along_axis(values, peaks, axis=1)


def token_axis(figure: go.Figure, pieces: Sequence[str], since: int = 0) -> go.Figure:
    """Give a figure the tokens of a text, from one on, as its horizontal axis, named where there are few."""
    few = len(pieces) - since <= 28
    return figure.update_xaxes(
        showgrid=False,
        range=[since - 0.5, len(pieces) - 0.5],
        tickvals=list(range(since, len(pieces))) if few else None,
        ticktext=[_short(piece) for piece in pieces[since:]] if few else None,
        tickangle=-40 if few else 0,
    )


def finding(pieces: Sequence[str], kl: dict[str, Sequence[float]], since: int = 0) -> str:
    """Where which model departs most, from a token on."""
    kl = {name: values[since:] for name, values in kl.items()}
    name = max(kl, key=lambda each: max(kl[each]))
    spot = since + int(np.argmax(kl[name]))
    return f"{_escaped(name)} departs most after {quoted(pieces[spot])}: divergence (KL) {max(kl[name]):.2g} nats"


def means(kl: dict[str, Sequence[float]]) -> str:
    """How far each model departs on average (markdown)."""
    told = "; ".join(f"{literal(each)} {np.mean(values):.2g} nats" for each, values in kl.items())
    return f"Mean over {len(next(iter(kl.values())))} tokens: {told}."


def bars(
    name: str,
    top: Sequence[tuple[int, str, float]],
    color: str,
    reference: Sequence[int] = (),
    highest: float | None = None,
) -> go.Figure:
    """The likeliest next tokens of one model, best first.

    Args:
        name: the model.
        top: id, text, chance.
        color: of its bars.
        reference: ids of the original's likeliest tokens: bars of others are pale; none for the original itself.
        highest: chance that is drawn beside it, so that bars side by side have one scale; None for its own.
    """
    chances = [100 * chance for _, _, chance in top]
    labels = [_short(text) for _, text, _ in top]
    known = [not reference or token in reference for token, _, _ in top]
    figure = go.Figure(
        go.Bar(
            x=chances,
            y=list(range(len(top))),
            orientation="h",
            marker={"color": color, "opacity": [1.0 if each else 0.4 for each in known]},
            text=[f"{chance:.1f}" for chance in chances],
            textposition="outside",
            cliponaxis=False,
            customdata=[[quoted(text)] for _, text, _ in top],
            hovertemplate="%{customdata[0]}: %{x:.2f}%<extra></extra>",
        )
    )
    likeliest = f"{quoted(top[0][1])} {chances[0]:.0f}%" if top else "nothing"
    theme.finish(figure, f"{_escaped(name)}<br>{likeliest}", x="Chance, %", height=300)
    figure.update_yaxes(tickvals=list(range(len(top))), ticktext=labels, autorange="reversed", showgrid=False)
    reach = 100 * highest if highest is not None else max(chances, default=0.0)
    return figure.update_xaxes(range=[0, max(reach, 1.0) * 1.25], nticks=4)


def _pairs(edges: np.ndarray) -> list[tuple[int, int]]:
    return list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))


def _escaped(text: str) -> str:
    return escape(text, quote=False)  # plotly knows no &quot;


def _visible(text: str) -> str:
    return _escaped(text.replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥")) or "▫"


def _short(text: str) -> str:
    return _visible(text if len(text) <= 14 else text[:13] + "…")


def quoted(text: str) -> str:
    """A piece of text with its blanks made visible, in quotation marks."""
    return f"“{_visible(text)}”"


def _wrapped(name: str) -> str:
    """A row's name on two lines, so that a narrow screen has room for the strip."""
    return _escaped(name).replace(", ", ",<br>", 1)
