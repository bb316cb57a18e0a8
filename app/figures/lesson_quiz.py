"""The quiz's figure: which questions were answered, and how.

Pure functions: flags in, a plotly figure out.
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from app import theme


def score(answered: Sequence[bool], right: Sequence[bool]) -> go.Figure:
    """A tile a question; what it says is written under it, so that colour is not needed."""
    words = ["right" if good else "wrong" if done else "open" for done, good in zip(answered, right, strict=True)]
    colors = [
        theme.ACCENT if good else theme.MARK if done else theme.QUIET
        for done, good in zip(answered, right, strict=True)
    ]
    places = list(range(1, len(words) + 1))
    figure = go.Figure(
        go.Bar(
            x=places,
            y=[1] * len(words),
            marker={"color": colors},
            customdata=words,
            hovertemplate="question %{x}: %{customdata}<extra></extra>",
        )
    )
    theme.finish(figure, _title(answered, right), height=100)
    figure.update_xaxes(
        tickvals=places,
        ticktext=[f"{place}: {word}" for place, word in zip(places, words, strict=True)],
        tickangle=0,
        tickfont={"size": 12},
        showgrid=False,
        fixedrange=True,
    )
    figure.update_yaxes(visible=False, fixedrange=True)
    return figure.update_layout(bargap=0.06)


def _title(answered: Sequence[bool], right: Sequence[bool]) -> str:
    if not any(answered):
        return f"{len(answered)} questions, none answered yet"
    return f"{sum(right)} of {len(right)} right" + ("" if all(answered) else f", {len(answered) - sum(answered)} open")
