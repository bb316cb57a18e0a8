"""The sensitivities behind one new layer: each source's sorted curve, with the cut.

Pure functions: origins and arrays in, a plotly figure out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from app import formats, theme
from app.figures.inspect import NAMES
from come.plan.provenance import Provenance

_FLAG = 15  # pixels between labels
_MARGINS = 100  # pixels above and below the axes, about
_ROW, _APART = 40, 14  # pixels: a source's row of bars under the curves, and between curves and rows
_BINS = 48  # bars a row
_RIGHT = 0.6  # opacity of those right of the cut
_FEW = 20  # units, up to which they are counted, not told as a share


def curves(origins: Provenance, new_layer: int, sensitivity: np.ndarray, *, log: bool = True) -> go.Figure:
    """The sorted sensitivities of a new layer's sources; solid where units were kept, dotted where not.

    The mark on each curve is its cut: as many units were kept as lie to its left. Below, a row of bars a source: the
    share kept by rank, whose area on both sides of the cut is what the title tells.

    Args:
        origins: the part, followed through the plan.
        new_layer: which layer is open.
        sensitivity: (layers, units) of the original model.
        log: logarithmic vertical axis.
    """
    many = NAMES[origins.part][1]
    group = origins.final[new_layer].group
    figure = go.Figure()
    cuts: list[tuple[float, int, int]] = []
    for source in group:
        color = theme.layer_color(source, origins.layers)
        order = np.argsort(-sensitivity[source], kind="stable")
        ordered, kept = sensitivity[source][order], origins.kept(source)[order]
        edges = _edges(len(ordered))
        sizes = np.diff(edges)
        height = np.add.reduceat(ordered, edges[:-1]) / sizes
        share = np.add.reduceat(kept.astype(float), edges[:-1]) / sizes
        middle = (edges[:-1] + edges[1:] + 1) / 2
        ranks = [
            f"rank {first:,d}" if first == last else f"ranks {first:,d} to {last:,d}"
            for first, last in zip(edges[:-1] + 1, edges[1:], strict=True)
        ]
        data = np.array([[*each] for each in zip(ranks, share, strict=True)], dtype=object)
        for chosen, line in (
            (share >= 0.5, {"color": color, "width": 2.5}),
            (share < 0.5, {"color": color, "width": 1.5, "dash": "dot"}),
        ):
            # A stretch reaches to the point before it, so that the curve has no gaps.
            reach = chosen | np.append(chosen[1:], False) if line.get("dash") else chosen
            if chosen.any():
                figure.add_trace(
                    go.Scatter(
                        x=middle,
                        y=np.where(reach, height, np.nan),
                        mode="lines+markers" if len(ordered) < 40 else "lines",
                        line=line,
                        marker={"size": 6},
                        customdata=data,
                        hovertemplate=f"Layer {source}, %{{customdata[0]}}: "
                        "S = %{y:.3g}, %{customdata[1]:.0%} kept<extra></extra>",
                        showlegend=False,
                    )
                )
        if 0 < (cut := int(kept.sum())) < len(ordered):
            cuts.append((float(ordered[cut - 1]), cut, source))
        else:
            _name(figure, f"layer {source}: {'all' if cut else 'none'}", len(ordered), float(ordered[-1]), log)
    for at, cut, source in cuts:
        figure.add_trace(_cut(source, cut, at))
    theme.finish(
        figure,
        _cut_finding(origins, new_layer, sensitivity),
        x=f"{many}, most sensitive first",
        y="Sensitivity S",
        height=320 + 15 * max(len(cuts) - 4, 0) + _room(cuts),
    )
    low, high = float(sensitivity[list(group)].min()), float(sensitivity[list(group)].max())
    if origins.units <= 12:
        figure.update_xaxes(dtick=1)
    theme.sensitivity_axis(figure, low, high, log=log)
    _flags(figure, cuts, origins, low, high)
    if cuts:
        _rows(figure, [source for *_, source in cuts], origins, sensitivity)
    return figure


def _name(figure: go.Figure, words: str, x: int, height: float, log: bool) -> None:
    """What a curve without a cut is, under its end: on its left the curve is higher."""
    y = float(np.log10(max(height, 1e-30))) if log else height
    font = {"size": 12, "color": theme.INK}
    figure.add_annotation(x=x, y=y, text=words, xanchor="right", yanchor="top", yshift=-6, showarrow=False, font=font)


def sources_cut(origins: Provenance, new_layer: int) -> list[int]:
    """The sources of a new layer of which some units were kept and others not: those with a cut."""
    return [source for source in origins.final[new_layer].group if 0 < origins.kept(source).sum() < origins.units]


def marks(figure: go.Figure) -> str:
    """What the marks that are drawn in these curves mean; "" where there are but solid curves."""
    dotted = [trace for trace in figure.data if trace.type == "scatter" and trace.line.dash == "dot"]
    said = []
    if dotted:
        several = any(str(words).startswith("ranks") for words, _ in dotted[0].customdata)
        said.append("Dotted: most dropped." if several else "Dotted: dropped.")
    if any(trace.type == "bar" for trace in figure.data):
        said.append("Bars: the share kept, by rank. Upright lines: the cuts.")  # red, as some curves are
    return " ".join(said)


def _room(cuts: Sequence[tuple[float, int, int]]) -> int:
    """Pixels that the rows take."""
    return len(cuts) * _ROW + _APART if cuts else 0


def _rows(figure: go.Figure, sources: list[int], origins: Provenance, sensitivity: np.ndarray) -> None:
    """Under the curves, over the same ranks: the share kept, a row of bars a source, with its cut."""
    bottoms = range(len(sources) - 1, -1, -1)
    for bottom, source in zip(bottoms, sources, strict=True):
        kept = origins.kept(source)[np.argsort(-sensitivity[source], kind="stable")]
        cut = int(kept.sum())
        edges = np.unique([*np.linspace(0, len(kept), min(len(kept), _BINS) + 1).round().astype(np.int64), cut])
        share = np.add.reduceat(kept.astype(float), edges[:-1]) / np.diff(edges)
        figure.add_bar(
            x=(edges[:-1] + edges[1:] + 1) / 2,
            y=0.8 * share,
            base=bottom,
            width=np.diff(edges),
            yaxis="y2",
            marker={
                "color": theme.layer_color(source, origins.layers),
                "opacity": np.where(edges[:-1] < cut, 1.0, _RIGHT),
                "line": {"width": 0},
            },
            customdata=np.stack([edges[:-1] + 1, edges[1:], share], axis=1),
            hovertemplate=f"Layer {source}, ranks %{{customdata[0]:,d}} to %{{customdata[1]:,d}}: "
            "%{customdata[2]:.0%} kept<extra></extra>",
            showlegend=False,
        )
        line = {"color": theme.MARK, "width": 2}
        figure.add_shape(
            type="line", xref="x", yref="y2", x0=cut + 0.5, x1=cut + 0.5, y0=bottom, y1=bottom + 0.92, line=line
        )
        if right := int(kept[cut:].sum()):
            figure.add_annotation(
                x=1,
                xref="paper",
                xanchor="right",
                y=bottom + 0.8,
                yref="y2",
                yanchor="top",
                text=f"{right:,} right of it",
                showarrow=False,
                font={"size": 12, "color": theme.INK},
            )
    inside = figure.layout.height - _MARGINS
    rows = len(sources) * _ROW / inside
    figure.update_layout(
        barmode="overlay",
        xaxis_anchor="y2",
        yaxis_domain=[rows + _APART / inside, 1],
        yaxis2={
            "domain": [0, rows],
            "range": [0, len(sources)],
            "tickvals": [bottom + 0.4 for bottom in bottoms],
            "ticktext": [f"layer {source}" for source in sources],
            "showgrid": False,
            "zeroline": False,
            "anchor": "x",
        },
    )


def _cut(source: int, cut: int, height: float) -> go.Scatter:
    return go.Scatter(
        x=[cut],
        y=[height],
        mode="markers",
        marker={"symbol": "line-ns", "size": 18, "line": {"color": theme.MARK, "width": 2.5}},
        hovertemplate=f"Layer {source} keeps {cut:,}<extra></extra>",
        showlegend=False,
        cliponaxis=False,
    )


def _flags(figure: go.Figure, cuts: list[tuple[float, int, int]], origins: Provenance, low: float, high: float) -> None:
    """A label for each cut, at a staff that stands on its mark; the leftmost is the highest, so that none cross."""
    if not cuts:
        return
    log = figure.layout.yaxis.type == "log"
    to = (lambda value: float(np.log10(max(value, high * 1e-12, 1e-30)))) if log else float
    bottom, top = to(low), to(high)
    step = _FLAG * (top - bottom) / (figure.layout.height - _MARGINS - _room(cuts))
    lowest = max(to(height) for height, _, _ in cuts) + 1.2 * step
    for place, (height, cut, source) in enumerate(sorted(cuts, key=lambda each: (-each[1], each[0]))):
        figure.add_annotation(
            x=cut,
            y=to(height),
            ax=cut,
            ay=lowest + place * step,
            axref="x",
            ayref="y",
            text=f"layer {source}: {cut:,}",
            xanchor="right" if cut > 0.75 * origins.units else "left",  # no room on its right
            showarrow=True,
            arrowhead=0,
            arrowwidth=1.2,
            arrowcolor=theme.layer_color(source, origins.layers),
            font={"size": 12, "color": theme.INK},
            borderpad=1,
        )
    edge = 0.04 * (top - bottom)
    figure.update_yaxes(range=[bottom - edge, max(top, lowest + len(cuts) * step) + edge])


def _cut_finding(origins: Provenance, new_layer: int, sensitivity: np.ndarray) -> str:
    """How much of what was kept lies above the cut."""
    group = origins.final[new_layer].group
    above = total = 0
    for source in group:
        kept = origins.kept(source)
        order = np.argsort(-sensitivity[source], kind="stable")
        above += int(kept[order[: int(kept.sum())]].sum())
        total += int(kept.sum())
    many = NAMES[origins.part][1]
    if len(group) == 1:
        return f"All {many} of layer {group[0]} are kept" if total == origins.units else f"{total:,} {many} are kept"
    if not total:
        return f"No {many} are kept as they were"
    if not sources_cut(origins, new_layer):
        whole = [source for source in group if origins.kept(source).all()]
        gone = [source for source in group if source not in whole]
        return f"All {many} of {_layers(whole)} stay{f', none of {_layers(gone)}' if gone else ''}"
    if total <= _FEW:
        return f"{f'All {total}' if above == total else f'{above} of the {total}'} {many} kept lie left of the cut"
    return f"{above / total:.0%} of the {many} kept lie left of the cut"


def _layers(numbers: Sequence[int]) -> str:
    return f"layer{'s' if len(numbers) > 1 else ''} {formats.ranges(numbers)}"


def _edges(count: int, bins: int = 240) -> np.ndarray:
    """Where bins of ranks begin and end: narrow for the first ranks, wider after."""
    if count <= bins:
        return np.arange(count + 1)
    inner = np.concatenate([np.geomspace(1, count, bins // 2), np.linspace(1, count, bins // 2)])
    return np.unique(np.append(np.round(inner).astype(np.int64), 0))
