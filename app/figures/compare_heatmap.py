"""The heatmap of the compare page: method by target, a value in every cell.

A cell's shade goes from nothing to the accent colour, by how good it is in its column, and lies over the page: so the
ink of the page's own text is legible on it in the light theme and in the dark one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import plotly.graph_objects as go

from app import theme
from come.pruning.registry import methods
from come.report.metrics import Metric
from come.report.points import Point, as_html
from come.report.verdict import points_judged

SHADES = [[0.0, "rgba(47, 127, 209, 0.04)"], [1.0, "rgba(47, 127, 209, 0.55)"]]
INKS = {"light": "#1a2330", "dark": "#e4e9ef"}  # by the page's theme: in what is saved as a file
# On the page the ink follows the theme live, which asks nothing of the server.
CSS = "<style>.st-key-method-by-target .textpoint text { fill: currentColor !important; }</style>"
BEST = 1.0  # in shades
ROW = 30  # pixels
LABEL = 170
CELL = 96


def heatmap(
    drawn: Sequence[Point], metric: Metric, theme_type: str | None = None, recovered: bool | None = None
) -> go.Figure:
    """Series by layers left; the best of each column is framed and bold, the rows go from best to worst on average.

    A clicked cell's customdata starts with the ids of its runs, joined by spaces.

    Args:
        drawn: the points; those without known layers are left out.
        metric: what the cells hold.
        theme_type: "light" or "dark", as the page is; None leaves the ink to the page.
        recovered: rank the models before recovery, or after it, as the verdict does; the others stand below them,
            unshaded. None: rank all.
    """
    ink = INKS.get(theme_type or "")
    known = [as_html(point) for point in drawn if point.layers is not None]
    targets = sorted({point.layers for point in known if point.layers is not None}, reverse=True)
    judged, _ = points_judged(known, recovered)
    goodness = {target: _goodness([p for p in judged if p.layers == target], metric) for target in targets}
    ranked = _best_first(judged, goodness)
    names = [*ranked, *dict.fromkeys(point.series for point in known if point.series not in ranked)]
    cells = {(point.series, point.layers): point for point in known}
    figure = go.Figure(
        [
            go.Heatmap(
                z=[[goodness[target].get(name) for target in targets] for name in names],
                zmin=0,
                zmax=1,
                colorscale=SHADES,
                showscale=False,
                hoverinfo="skip",
                xgap=2,
                ygap=2,
            ),
            go.Scatter(
                x=[targets.index(point.layers) for point in known],
                y=[names.index(point.series) for point in known],
                mode="markers+text",
                marker={"symbol": "square", "size": ROW - 2, "color": "rgba(0, 0, 0, 0)"},
                unselected={"marker": {"opacity": 1}},
                text=[
                    f"<b>{metric.say(p.value)}</b>" if goodness[p.layers].get(p.series) == BEST else metric.say(p.value)
                    for p in known
                ],
                textposition="middle center",
                textfont={"size": 12, "color": ink},
                customdata=[
                    [" ".join(p.runs), p.series, p.layers, metric.say_with(p.value, p.low, p.high), p.behind(metric)]
                    for p in known
                ],
                hovertemplate="<b>%{customdata[1]}</b>, %{customdata[2]} layers<br>%{customdata[3]}"
                "<br>%{customdata[4]}<extra></extra>",
                showlegend=False,
            ),
        ]
    )
    missing = [
        (x, y) for y, name in enumerate(names) for x, target in enumerate(targets) if (name, target) not in cells
    ]
    if missing:
        figure.add_trace(
            go.Scatter(
                x=[x for x, _ in missing],
                y=[y for _, y in missing],
                mode="text",
                text=["–"] * len(missing),
                textfont={"size": 12, "color": ink},
                opacity=0.5,
                hoverinfo="skip",
                showlegend=False,
            )
        )
    for x, target in enumerate(targets):
        for name in (name for name, shade in goodness[target].items() if shade == BEST):
            y = names.index(name)
            figure.add_shape(
                type="rect",
                x0=x - 0.49,
                x1=x + 0.49,
                y0=y - 0.46,
                y1=y + 0.46,
                line={"color": theme.MARK, "width": 2},
            )
    theme.finish(figure, finding(known, metric, recovered), x="layers left", height=90 + ROW * len(names))
    figure.update_xaxes(
        tickvals=list(range(len(targets))),
        ticktext=[str(target) for target in targets],
        range=[-0.5, len(targets) - 0.5],
        showgrid=False,
        side="top",
    )
    figure.update_layout(margin_b=8)
    figure.update_yaxes(
        tickvals=list(range(len(names))),
        ticktext=[f"<b>{name}</b>" if _is_ours(name, known) else name for name in names],
        range=[len(names) - 0.5, -0.5],
        showgrid=False,
    )
    return figure


def width(drawn: Sequence[Point]) -> int:
    """How wide the heatmap should be at most, in pixels: cells much wider than their numbers are hard to read."""
    return LABEL + CELL * max(3, len({point.layers for point in drawn if point.layers is not None}))


def finding(drawn: Sequence[Point], metric: Metric, recovered: bool | None = None) -> str:
    """Who ranks first at how many targets, of those that the verdict judges (`points_judged`)."""
    drawn, when = points_judged(drawn, recovered)
    title = f"{metric.title} {when}" if when else metric.title
    rows = Counter(point.layers for point in drawn if point.layers is not None)
    several = [target for target, count in rows.items() if count > 1]  # alone, one is first of nobody
    targets = sorted(several or rows, reverse=True)
    wins: Counter[str] = Counter()
    for target in targets:
        shades = _goodness([point for point in drawn if point.layers == target], metric)
        wins.update(name for name, shade in shades.items() if shade == BEST)
    if not wins:
        return f"{title} by method and layers left"
    (winner, count), *others = wins.most_common(3)
    if len(targets) == 1:
        return f"{title} at {targets[0]} layers: {winner} ranks first"
    if count == len(targets):
        return f"{title}: {winner} ranks first at {'both' if count == 2 else f'all {count}'} sizes"
    told = "".join(f", {name} at {more}" for name, more in others)
    return f"{title}: {winner} ranks first at {count} of {len(targets)} sizes{told}"


def _goodness(column: Sequence[Point], metric: Metric) -> dict[str, float]:
    """How good each series is in its column, by rank: 1 the best, 0 the worst; 0.5 where there is no difference."""
    values = sorted({point.value for point in column}, reverse=metric.lower)  # from worst to best
    last = len(values) - 1
    return {point.series: values.index(point.value) / last if last else 0.5 for point in column}


def _best_first(known: Sequence[Point], goodness: dict[int, dict[str, float]]) -> list[str]:
    """Series by their mean rank over the targets that they were run at."""
    shades: dict[str, list[float]] = {}
    for point in known:
        if point.layers is not None:
            shades.setdefault(point.series, []).append(goodness[point.layers][point.series])
    return sorted(shades, key=lambda name: (-sum(shades[name]) / len(shades[name]), name))


def _is_ours(name: str, known: Sequence[Point]) -> bool:
    """Whether a line is of the method to begin with."""
    here = methods()
    return any(point.series == name and point.method in here and here[point.method].begins for point in known)
