"""One new layer opened: its pieces, every unit of its sources as a tile, and their sensitivities with the cut.

Pure functions: origins and arrays in, plotly figures out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import plotly.graph_objects as go

from app import theme
from app.figures.inspect import NAMES, listed, looks, sources, words
from app.formats import ranges
from come.plan.provenance import Provenance
from come.plan.steps import Part

Order = Literal["rank", "index"]
MAX_TILES = 24_000  # more are put together, so that hovering each one stays below a megabyte
_ASPECT = 12  # how much wider than high the tiles of one source are
_WIDTH = 800  # pixels, about, that the tiles have on a wide screen
_KEPT, _NOTHING = 200, 255  # levels of a tile: all of it kept; no tile at all


def pieces_bar(ffn: Provenance, attention: Provenance, new_layer: int, part: Part = "ffn") -> go.Figure:
    """One new layer as its pieces: a bar of its FFN channels, a bar of its KV groups; the title speaks of a part."""
    figure = go.Figure()
    for origins in (ffn, attention):
        for piece in origins.final[new_layer].pieces:
            marker = looks([piece], origins.layers)
            ink = None if piece.kind == "silenced" else theme.ink_on(marker["color"][0])
            figure.add_trace(
                go.Bar(
                    y=[NAMES[origins.part][1]],
                    x=[piece.share],
                    orientation="h",
                    marker={**marker, "line": {"width": 0}},
                    text=["" if piece.kind == "silenced" else f"{piece.source}"],
                    textposition="inside",
                    insidetextanchor="middle",
                    textangle=0,
                    textfont={"color": ink, "size": 13},
                    hovertext=[words(piece, origins)],
                    hovertemplate="%{hovertext}<extra></extra>",
                    showlegend=False,
                )
            )
    theme.finish(figure, finding(ffn, attention, new_layer, part), x="Share of the new layer", height=180)
    figure.update_layout(barmode="stack", bargap=0.28, uniformtext={"minsize": 10, "mode": "hide"})
    figure.update_layout(margin={"l": 104, "r": 24})  # for the bars' names, and half of 100%
    figure.update_yaxes(autorange="reversed")
    return figure.update_xaxes(range=[0, 1], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%", showgrid=False)


def finding(ffn: Provenance, attention: Provenance, new_layer: int, part: Part = "ffn") -> str:
    """What one new layer is made of, in a sentence; where its parts differ, that of which it is asked."""
    layer, groups = ffn.final[new_layer], attention.final[new_layer].pieces
    pieces = layer.pieces
    if averaged := sorted({piece.source for piece in pieces if piece.kind == "averaged"}):
        return f"Every weight is a weighted sum of those of layers {ranges(averaged)}"
    silenced, silenced_groups = (
        sum(piece.share for piece in part if piece.kind == "silenced") for part in (pieces, groups)
    )
    if silenced or silenced_groups:
        return (
            f"Layer {layer.group[0]}, with {silenced:.0%} of its FFN channels "
            f"and {silenced_groups:.0%} of its KV groups silenced"
        )
    if len(sources(pieces)) == 1 == len(sources(groups)):
        gone = [each for each in layer.group if each not in sources(pieces)]
        own = f"Layer {sources(pieces)[0]} as it was"
        return f"{own}; nothing is left of layer{'s' if len(gone) > 1 else ''} {ranges(gone)}" if gone else own
    pieces = pieces if part == "ffn" else groups
    many = NAMES[part][1]
    if len(sources(pieces)) == 1:
        return f"Layer {sources(pieces)[0]} gives all {many}"
    most = max(piece.share for piece in pieces)
    first = [piece.source for piece in pieces if f"{piece.share:.0%}" == f"{most:.0%}"]  # as far as is told
    each = f"Layer {first[0]} gives {most:.0%}" if len(first) == 1 else f"Layers {ranges(first)} each give {most:.0%}"
    return f"{each} of the {many}, the most of {len(sources(pieces))} sources"


# --- tiles -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Grid:
    """The tiles of one source layer, in reading order.

    Attributes:
        units: the source's units in the order of the tiles, ``per_tile`` neighbours a tile.
        starts: (tiles,), where each tile begins in ``units``.
        kept: (tiles,), how many of its units are kept.
        level: (rows, columns), the kept share as 0.._KEPT; _NOTHING where there is no tile.
    """

    units: np.ndarray
    starts: np.ndarray
    kept: np.ndarray
    level: np.ndarray


def tiles(
    origins: Provenance,
    new_layer: int,
    sensitivity: np.ndarray | None = None,
    order: Order = "rank",
    followed: tuple[int, int] | None = None,
) -> go.Figure:
    """Every unit of a new layer's sources as a tile: coloured where kept, grey where not.

    The points' customdata begins with [source layer, unit, last unit of the tile].

    Args:
        origins: the part, followed through the plan.
        new_layer: which layer is open.
        sensitivity: (layers, units) of the original model; None: not measured.
        order: "rank", the most sensitive first, where it was measured; or "index", as they lie in their layer.
        followed: a layer and a unit, whose tile is framed.
    """
    group = origins.final[new_layer].group
    per_tile = -(-len(group) * origins.units // MAX_TILES)
    count = -(-origins.units // per_tile)
    columns = min(count, int(np.ceil(np.sqrt(count * _ASPECT))))
    rows = -(-count // columns)
    columns = -(-count // rows)  # so that the last row is no stump
    ranked = sensitivity is not None and order == "rank"
    figure = go.Figure()
    for block, source in enumerate(group):
        values = None if sensitivity is None else sensitivity[source]
        grid = _grid(origins, source, values if ranked else None, per_tile, columns)
        top = block * (rows + 1)
        color = theme.layer_color(source, origins.layers)
        figure.add_trace(_heat(grid.level, top, color, gap=1 if columns <= 64 else 0))
        for trace in _points(grid, origins, new_layer, source, values, top, columns, per_tile):
            figure.add_trace(trace)
        if followed is not None and followed[0] == source:
            for tile in np.flatnonzero(grid.units == followed[1]) // per_tile:
                _frame(figure, int(tile) % columns, top + int(tile) // columns)
    along = "Most sensitive first" if ranked else "By index"
    along += f", {per_tile} a tile" if per_tile > 1 else ", row by row"
    block_height = 46 if rows == 1 else max(40, min(_WIDTH / _ASPECT, 640 / len(group)))
    theme.finish(figure, _tiles_finding(origins, group), x=along, height=round(len(group) * block_height + 74))
    figure.update_layout(margin={"l": 88, "b": 26})  # for the layers' names; no labels of ticks below
    figure.update_xaxes(range=[-0.5, columns - 0.5], showgrid=False, showticklabels=False, ticks="", fixedrange=True)
    figure.update_yaxes(
        range=[len(group) * (rows + 1) - 1.5, -0.5],
        tickvals=[block * (rows + 1) + (rows - 1) / 2 for block in range(len(group))],
        ticktext=[f"Layer {source}" for source in group],
        showgrid=False,
        fixedrange=True,
    )
    return figure.update_layout(hovermode="closest", clickmode="event+select")


def _frame(figure: go.Figure, column: int, row: int) -> None:
    """Mark the tile of the unit that is followed."""
    line = {"color": theme.MARK, "width": 2.5}
    figure.add_shape(type="rect", x0=column - 0.7, x1=column + 0.7, y0=row - 0.7, y1=row + 0.7, line=line)


def ranks(values: np.ndarray) -> np.ndarray:
    """The rank of each value, 1 for the largest."""
    found = np.empty(len(values), dtype=np.int64)
    found[np.argsort(-values, kind="stable")] = np.arange(1, len(values) + 1)
    return found


def _grid(origins: Provenance, source: int, values: np.ndarray | None, per_tile: int, columns: int) -> _Grid:
    units = np.arange(origins.units) if values is None else np.argsort(-values, kind="stable")
    starts = np.arange(0, origins.units, per_tile)
    kept = np.add.reduceat(origins.kept(source)[units].astype(np.int64), starts)
    sizes = np.diff([*starts, origins.units])
    level = np.full(-(-len(starts) // columns) * columns, _NOTHING, dtype=np.uint8)
    level[: len(starts)] = np.round(kept / sizes * _KEPT)
    return _Grid(units, starts, kept, level.reshape(-1, columns))


def _heat(level: np.ndarray, top: int, color: str, gap: int) -> go.Heatmap:
    edge = _KEPT / _NOTHING
    clear = "rgba(0,0,0,0)"
    return go.Heatmap(
        z=level,
        y0=top,
        dy=1,
        zmin=0,
        zmax=_NOTHING,
        colorscale=[[0, theme.QUIET], [edge, color], [edge + 1e-3, clear], [1, clear]],
        showscale=False,
        hoverinfo="skip",
        xgap=gap,
        ygap=gap,
    )


def _points(
    grid: _Grid,
    origins: Provenance,
    new_layer: int,
    source: int,
    values: np.ndarray | None,
    top: int,
    columns: int,
    per_tile: int,
) -> list[go.Scattergl]:
    """Transparent points over the tiles, which carry hover and clicks: those of kept units, then the others."""
    one, many = NAMES[origins.part]
    first = grid.units[grid.starts]
    last = grid.units[np.append(grid.starts[1:], len(grid.units)) - 1]
    rank = ranks(values)[first] if values is not None else np.zeros(len(first))
    shown = values[first] if values is not None else np.zeros(len(first))
    place, lost = origins.places(new_layer, source)[first], origins.lost[source][first] + 1
    head = f"Layer {source}, {one} %{{customdata[1]:d}}"
    measured = (
        f"<br>S = %{{customdata[3]:.3g}}, rank %{{customdata[4]:,d}} of {origins.units:,}" if values is not None else ""
    )
    found = []
    for chosen, end, text in (
        (grid.kept > 0, place, "<br>kept: place %{customdata[5]:,d} of the new layer"),
        (grid.kept == 0, lost, "<br>not kept: lost at step %{customdata[5]:d}"),
    ):
        if per_tile > 1:
            head = f"Layer {source}, {per_tile} {many} from %{{customdata[1]:d}} on"
            end, text = grid.kept, f"<br>%{{customdata[5]:d}} of {per_tile} kept"
        (tile,) = np.nonzero(chosen)
        if len(tile):
            data = np.stack([np.full(len(first), source), first, last, shown, rank, end], axis=1)[tile]
            found.append(
                go.Scattergl(
                    x=(tile % columns).astype(np.uint16),
                    y=(tile // columns + top).astype(np.uint16),
                    mode="markers",
                    marker={"size": 7, "opacity": 0, "symbol": "square"},
                    selected={"marker": {"opacity": 0}},
                    unselected={"marker": {"opacity": 0}},
                    customdata=data.astype(np.float32),
                    hovertemplate=f"{head}{measured}{text}<extra></extra>",
                    showlegend=False,
                )
            )
    return found


def _tiles_finding(origins: Provenance, group: tuple[int, ...]) -> str:
    many = NAMES[origins.part][1]
    kept = [int(origins.kept(source).sum()) for source in group]
    each = listed([f"{count:,} of layer {source}" for count, source in zip(kept, group, strict=True)])
    return f"Kept {many}: {each}" if len(group) <= 4 else f"{sum(kept):,} of {len(group) * origins.units:,} {many} kept"
