"""The chart of which layers sequences can do without: a row a sequence, a cell a layer."""

from __future__ import annotations

from statistics import fmean

import plotly.graph_objects as go

from app import theme
from app.figures.similarity import layer_ticks
from come.report.colors import HATCH
from come.runs.layers_needed import Search


def needed(search: Search, layers: int) -> go.Figure:
    """Each sequence's layers: kept in its layer's colour, dropped hatched grey; how many it needs, on the right.

    Args:
        search: what was found at one tolerance, of one sequence at least.
        layers: of the model.
    """
    figure = go.Figure()
    rows = [f"Sequence {number}" for number in range(len(search.found))]
    for layer in range(layers):
        stays = [layer in each.kept for each in search.found]
        figure.add_trace(
            go.Bar(
                y=rows,
                x=[0.92] * len(rows),
                base=[layer - 0.46] * len(rows),
                orientation="h",
                marker={
                    "color": [theme.layer_color(layer, layers) if kept else theme.QUIET for kept in stays],
                    "line": {"width": 0},
                    "pattern": {
                        "shape": ["" if kept else "/" for kept in stays],
                        "fgcolor": HATCH,
                        "fgopacity": 1,
                        "fillmode": "overlay",
                        "size": 6,
                        "solidity": 0.3,
                    },
                },
                text=[f"layer {layer} is {'kept' if kept else 'dropped'}" for kept in stays],
                customdata=[[each.loss, each.kept_loss, each.uniform, each.uniform_loss] for each in search.found],
                textposition="none",
                hovertemplate="<b>%{y}</b>: %{text}<br>loss with all layers %{customdata[0]:.3f} nats a token<br>"
                "with those that are kept %{customdata[1]:.3f}<br>"
                "evenly spaced, %{customdata[2]} layers do: %{customdata[3]:.3f}<extra></extra>",
                showlegend=False,
            )
        )
    counts = [*(str(each.layers) for each in search.found), f"{fmean(each.layers for each in search.found):.1f}"]
    for row, count in zip([*rows, "Mean"], counts, strict=True):
        figure.add_annotation(x=1, xref="paper", xanchor="left", xshift=8, y=row, text=count, showarrow=False)
    # The row of the mean has no cells: a bar of no length gives it a place.
    figure.add_trace(go.Bar(y=["Mean"], x=[0], orientation="h", hoverinfo="skip", showlegend=False))
    theme.finish(figure, finding(search, layers), x="Layer", height=174 + 34 * len(rows))
    # Plotly's buttons lie above the first row, not on it.
    figure.update_layout(
        barmode="overlay", bargap=0.22, hovermode="closest", margin={"l": 92, "r": 52, "t": figure.layout.margin.t + 24}
    )
    figure.update_xaxes(range=[-0.6, layers - 0.4], showgrid=False, zeroline=False, tickvals=layer_ticks(layers - 1))
    return figure.update_yaxes(categoryarray=["Mean", *reversed(rows)], categoryorder="array", showgrid=False)


def finding(search: Search, layers: int) -> str:
    """What the chart shows, in one sentence."""
    of, doing = len(search.found), sum(each.layers < layers for each in search.found)
    who = "Of 1 sequence" if of == 1 else f"Of {of} sequences"
    how_many = "all" if doing == of > 1 else doing or "none"
    loss = f"a loss of {search.tolerance:g} nats a token" if search.tolerance else "a loss of 0"
    if not doing:
        return f"{who}, none can do without a layer at {loss}"
    mean = fmean(each.layers for each in search.found)
    return f"{who}, {how_many} can do without a layer at {loss}: {mean:.1f} of {layers} layers on average"
