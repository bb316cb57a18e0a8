"""Charts of what a model is made of."""

from __future__ import annotations

import plotly.graph_objects as go

from app import theme

_ORDER = ("embeddings", "attention", "feed-forward", "norms", "head")


def parameters_by_part(parts: dict[str, int], layers: int) -> go.Figure:
    """One bar, cut into the model's parts by their number of parameters.

    Args:
        parts: parameters by part, as in ``Facts.parameters_by_part``.
        layers: how many decoder layers the model has.
    """
    total = max(sum(parts.values()), 1)
    figure = go.Figure()
    for index, part in enumerate(name for name in _ORDER if name in parts):
        share = parts[part] / total
        figure.add_trace(
            go.Bar(
                x=[parts[part]],
                y=[""],
                orientation="h",
                name=f"{part} {share:.0%}",
                marker={"color": theme.CATEGORIES[index % len(theme.CATEGORIES)], "line": {"width": 0}},
                hovertemplate=f"{part}: %{{x:,d}} parameters, {share:.1%}<extra></extra>",
                visible=True if parts[part] else "legendonly",
                showlegend=share >= 0.01,  # less cannot be seen, but by its hover
            )
        )
    inside = (parts.get("attention", 0) + parts.get("feed-forward", 0)) / total
    theme.finish(
        figure,
        f"The {layers} layers hold {inside:.0%} of the parameters",
        x="Parameters",
        height=170,
        legend=True,
    )
    figure.update_layout(barmode="stack", bargap=0.1, legend={"traceorder": "normal"})
    figure.update_xaxes(range=[0, total], showgrid=False, nticks=6)
    figure.update_yaxes(showticklabels=False)
    return figure
