"""The lesson's figure of one channel: how loud it is at each token of a line.

Pure functions: arrays in, a plotly figure out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app import theme


def activations(
    words: Sequence[str], values: np.ndarray, *, moved: int, original: float, color: str, title: str
) -> go.Figure:
    """The activation of a channel at each token, the moved one marked, and their mean.

    Args:
        words: the tokens, as they read.
        values: |x_t|, with the moved one as it is now, (tokens,).
        moved: which token's value may be moved. original: what it was.
        color: of the channel's layer. title: the finding.
    """
    figure = go.Figure(
        go.Bar(
            x=list(range(len(words))),
            y=values,
            marker={"color": [theme.MARK if place == moved else color for place in range(len(words))]},
            customdata=[shown(word) for word in words],
            hovertemplate="token “%{customdata}”: |x| = %{y:.3g}<extra></extra>",
        )
    )
    figure.add_hline(
        y=float(values.mean()),
        line={"color": theme.MARK, "width": 1.5, "dash": "dash"},
        annotation={"text": f"mean {values.mean():.3g}", "font": {"size": 12}},
        annotation_position="top right",
    )
    if original != values[moved]:
        figure.add_trace(
            go.Scatter(
                x=[moved],
                y=[original],
                mode="markers",
                marker={"symbol": "line-ew", "size": 26, "line": {"width": 2.5, "color": theme.MARK}},
                hovertemplate="as it was: |x| = %{y:.3g}<extra></extra>",
            )
        )
    theme.finish(figure, title, x="Token", y="Activation |x| (no unit)", height=340)
    figure.update_xaxes(
        tickvals=list(range(len(words))), ticktext=[shown(word) for word in words], tickangle=-50, fixedrange=True
    )
    return figure.update_yaxes(rangemode="tozero", fixedrange=True)


def shown(word: str) -> str:
    """A token so that blanks and line breaks can be seen."""
    return word.replace("\n", "↵").strip() or ("↵" if "\n" in word else "␣")
