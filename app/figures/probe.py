"""The chart of which layers a task is read from: the weight of each layer in the mix, by depth, of both models."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from app import theme
from come.report.probes import Pair, states_of


def mix(pair: Pair, groups: Sequence[Sequence[int]]) -> go.Figure:
    """Both models' weights over the share of the depth, so that models of unlike depth lie upon each other.

    Args:
        pair: the probes of both.
        groups: the original's layers that each layer of the pruned model stands for.
    """
    figure = go.Figure()
    looks = (
        ("original", pair.before, (), theme.ORIGINAL, "circle", "dot"),
        ("pruned", pair.after, groups, theme.ACCENT, "diamond", "solid"),
    )
    for name, probe, stands_for, color, symbol, dash in looks:
        last = len(probe.weights) - 1
        figure.add_scatter(
            x=[state / last for state in range(last + 1)],
            y=list(probe.weights),
            name=name,
            mode="lines+markers",
            line={"color": color, "width": 1.5, "dash": dash},
            marker={"color": color, "symbol": symbol, "size": 7},
            customdata=states_of(probe, stands_for),
            hovertemplate=f"<b>{name}</b>, %{{customdata}}<br>share %{{y:.1%}}, depth %{{x:.0%}}<extra></extra>",
        )
    theme.finish(
        figure, pair.finding, x="Depth: 0% the embeddings, 100% the last layer", y="Share of the mix", height=300
    )
    figure.update_layout(
        showlegend=True, hovermode="closest", legend={"x": 1, "xanchor": "right"}, margin_t=figure.layout.margin.t + 32
    )
    figure.update_xaxes(range=[-0.02, 1.02], tickformat=".0%", showgrid=False)
    return figure.update_yaxes(rangemode="tozero", tickformat=".0%", nticks=5)
