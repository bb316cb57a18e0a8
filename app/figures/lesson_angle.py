"""The lesson's chart of influence: the hidden state before and after a window, at the angle that was measured.

Pure functions: numbers in, a plotly figure out.
"""

from __future__ import annotations

import math

import numpy as np
import plotly.graph_objects as go

from app import theme

_ARC = 0.34  # radius; the arrows have length 1


def turned(
    degrees: float, others: np.ndarray, *, told: str, first: int, last: int, layers: int, title: str
) -> go.Figure:
    """Two arrows with the mean angle between the states that enter a window and leave it.

    Args:
        degrees: that angle. told: the same as it is written.
        others: the angles of all windows of that length, drawn faint.
        first, last: the window. layers: of the model.
        title: the finding.
    """
    figure = go.Figure()
    figure.add_trace(_faint(others))
    color = theme.layer_color(first, layers)
    ends = ((0.0, theme.CATEGORIES[4], f"enters layer {first}"), (degrees, color, f"leaves layer {last}"))
    for angle, shade, words in ends:
        x, y = _tip(angle)
        figure.add_annotation(
            x=x,
            y=y,
            ax=0,
            ay=0,
            axref="x",
            ayref="y",
            text="",
            showarrow=True,
            arrowhead=2,
            arrowwidth=4,
            arrowcolor=shade,
        )
        figure.add_trace(
            go.Scatter(
                x=[x * 1.03],
                y=[y * 1.03 + (-0.045 if angle == 0 else 0.045)],
                mode="text",
                text=[words],
                textposition="middle right" if angle < 75 else "top center",
                textfont={"size": 13},
                cliponaxis=False,
                hoverinfo="skip",
            )
        )
    arc = np.radians(np.linspace(0, degrees, 40))
    figure.add_trace(
        go.Scatter(
            x=_ARC * np.cos(arc), y=_ARC * np.sin(arc), mode="lines", line={"color": theme.MARK, "width": 3},
            hoverinfo="skip",
        )
    )  # fmt: skip
    middle = math.radians(degrees / 2)
    figure.add_trace(
        go.Scatter(
            x=[(_ARC + 0.04) * math.cos(middle)],
            y=[(_ARC + 0.04) * math.sin(middle)],
            mode="text",
            text=[told],
            textposition="middle right",
            textfont={"size": 17},
            hoverinfo="skip",
        )
    )
    figure.add_annotation(
        text="Grey marks: the other windows<br>of this length",
        x=1.45,
        y=1.1,
        xanchor="right",
        yanchor="top",
        align="right",
        showarrow=False,
        font={"size": 12, "color": theme.INK},
    )
    theme.finish(figure, title, height=305)
    figure.update_xaxes(visible=False, range=[-0.05, 1.45], fixedrange=True)
    return figure.update_yaxes(visible=False, range=[-0.12, 1.12], scaleanchor="x", constrain="domain", fixedrange=True)


def _tip(degrees: float) -> tuple[float, float]:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))


def _faint(others: np.ndarray) -> go.Scatter:
    """All other windows as faint lines, one trace."""
    x, y, names = [], [], []
    for first, degrees in enumerate(others):
        end = _tip(float(degrees))
        x += [0.86 * end[0], end[0], None]
        y += [0.86 * end[1], end[1], None]
        names += [f"window at layer {first}: {degrees:.1f}°"] * 3
    return go.Scatter(
        x=x,
        y=y,
        mode="lines",
        line={"color": theme.QUIET, "width": 2},
        text=names,
        hovertemplate="%{text}<extra></extra>",
    )
