"""The lesson's figures of perplexity: a few models beside each other, with their uncertainty.

Pure functions: numbers in, a plotly figure out.
"""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from app import theme


def perplexities(
    names: Sequence[str], values: Sequence[float], errors: Sequence[float], colors: Sequence[str], title: str
) -> go.Figure:
    """A bar a model, its value written at its end; the whiskers are one standard error."""
    figure = go.Figure(
        go.Bar(
            y=list(names),
            x=list(values),
            orientation="h",
            marker={"color": list(colors)},
            error_x={"array": list(errors), "thickness": 1.5, "width": 5, "color": "#858d99"},
            hovertemplate="%{y}: perplexity %{x:.4g}<extra></extra>",
        )
    )
    reach = max(value + (error if error == error else 0) for value, error in zip(values, errors, strict=True))
    for name, value, error in zip(names, values, errors, strict=True):
        figure.add_annotation(
            y=name,
            x=value + (error if error == error else 0),
            text=f"  {value:.1f} ± {error:.1f}" if error == error else f"  {value:.1f}",
            showarrow=False,
            xanchor="left",
            font={"size": 13},
        )
    theme.finish(
        figure, title, x="Perplexity (lower is better; whiskers: ± 1 standard error)", height=105 + 50 * len(names)
    )
    figure.update_xaxes(range=[0, reach * 1.28], fixedrange=True)
    return figure.update_yaxes(autorange="reversed", fixedrange=True, ticksuffix="  ")


def parts(names: Sequence[str], values: Sequence[int], moved: Sequence[bool], title: str) -> go.Figure:
    """The parameters of one layer by part; those that are moved in colour."""
    figure = go.Figure(
        go.Bar(
            y=list(names),
            x=list(values),
            orientation="h",
            marker={"color": [theme.ACCENT if each else theme.QUIET for each in moved]},
            hovertemplate="%{y}: %{x:,d} parameters<extra></extra>",
        )
    )
    theme.finish(figure, title, x="Parameters of one layer", height=105 + 34 * len(names))
    figure.update_xaxes(fixedrange=True)
    return figure.update_yaxes(autorange="reversed", fixedrange=True, ticksuffix="  ")
