"""The chart of the plan page: the layers before and after.

Pure functions: numbers in, a plotly figure out. A source layer has the same colour in both rows; what a layer
loses is hatched grey; the coloured bands say which layer each piece of a new layer comes from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from app import theme
from come.models import Facts
from come.pruning.forecast import Forecast
from come.report.colors import HATCH

TILE = 0.86  # width of a tile, a layer's slot being 1
BEFORE, AFTER = 1.95, 0.0  # the lower edge of each row of tiles
FEED_FORWARD = (0.0, 0.74)  # lower edge and height, inside a tile, of the feed-forward part
ATTENTION = (0.82, 0.18)  # and of the key/value groups
SMALL = 92  # pixels
SEAM = 0.025  # between the pieces of a new layer


@dataclass(frozen=True)
class Piece:
    """What a new layer keeps of one source layer."""

    layer: int
    channels: int
    kv_groups: int


@dataclass(frozen=True)
class _Block:
    x: float
    y: float
    height: float
    color: str
    text: str
    hatched: bool = False


def final_layers(
    layers: int,
    channels: int,
    kv_groups: int,
    windows: Iterable[tuple[int, Sequence[int], Sequence[int]]] = (),
    removed: Iterable[int] = (),
) -> list[list[Piece]]:
    """The layers of the pruned model, each as its pieces.

    `windows` are (first source layer, channels kept of each layer, KV groups kept of each).
    Layers in no window and not in `removed` stay whole.
    """
    merged = {first: (kept, groups) for first, kept, groups in windows}
    gone = set(removed)
    result: list[list[Piece]] = []
    layer = 0
    while layer < layers:
        if layer in merged:
            kept, groups = merged[layer]
            result.append([Piece(layer + k, c, g) for k, (c, g) in enumerate(zip(kept, groups, strict=True))])
            layer += len(kept)
        else:
            if layer not in gone:
                result.append([Piece(layer, channels, kv_groups)])
            layer += 1
    return result


def foreseen(found: Forecast, facts: Facts, *, small: bool = False) -> go.Figure:
    """What a plan would make of the layers."""
    units = (facts.layers, facts.intermediate_size, facts.num_key_value_heads)
    merged = [(window.first, window.channels, window.kv_groups) for window in found.windows]
    return strips(*units, final_layers(*units, merged, found.removed), small=small)


def strips(
    layers: int, channels: int, kv_groups: int, final: Sequence[Sequence[Piece]], *, small: bool = False
) -> go.Figure:
    """The source layers over the layers of the pruned model; a `small` figure has no room for their numbers.

    Each tile has two parts: above, the key/value groups; below, the feed-forward channels. Heights are shares
    of a layer, so what is solid above is exactly what is stacked below, the first source on top.
    """
    kept = {piece.layer: piece for pieces in final for piece in pieces}
    blocks = [
        block for layer in range(layers) for block in _source_tile(layer, kept.get(layer), layers, channels, kv_groups)
    ]
    ribbons: list[dict] = []
    outlines: list[dict] = []
    shift = (layers - len(final)) / 2
    for place, pieces in enumerate(final):
        x = place + shift
        blocks += _new_tile(x, place, pieces, layers, channels, kv_groups)
        mixed = len([piece for piece in pieces if piece.channels or piece.kv_groups]) > 1
        for piece in pieces:
            if piece.channels or piece.kv_groups:
                ribbons.append(_ribbon(piece.layer, x, theme.layer_color(piece.layer, layers), 0.34 if mixed else 0.10))
        if len(pieces) > 1:
            outlines.append(_outline(x))

    figure = go.Figure(
        [_bars([b for b in blocks if not b.hatched]), _bars([b for b in blocks if b.hatched], hatched=True)]
    )
    figure.update_xaxes(visible=False, range=[-0.7, layers - 0.3], fixedrange=True)
    margin = 0.03 if small else 0.28
    figure.update_yaxes(visible=False, range=[AFTER - margin, BEFORE + 1 + margin], fixedrange=True)
    title = strips_title(layers, final)
    theme.finish(figure, title, height=SMALL if small else 296)
    if small:
        figure.update_layout(margin={"t": theme.title_room(title) + 2, "b": 2})
    else:
        places = [place + shift for place in range(len(final))]
        figure.add_trace(_numbers(range(layers), range(layers), BEFORE + 1.13, layers, "layer"))
        figure.add_trace(_numbers(places, range(len(final)), AFTER - 0.13, layers, "new"))
    return figure.update_layout(barmode="overlay", bargap=0, shapes=ribbons + outlines, hovermode="closest")


def strips_title(layers: int, final: Sequence[Sequence[Piece]]) -> str:
    """The finding of `strips`, in one short sentence."""
    merged = [pieces for pieces in final if len(pieces) > 1]
    standing = sum(len(pieces) for pieces in final)
    removed = layers - standing
    if not merged and not removed:
        return f"All {layers} layers stay as they are"
    parts = []
    if merged:
        sources = sum(len(pieces) for pieces in merged)
        parts.append(f"{_count(sources, 'layer')} {'become' if sources != 1 else 'becomes'} {len(merged)}")
    if removed:
        parts.append(f"{_count(removed, 'layer')} {'go' if removed != 1 else 'goes'}")
    untouched = len(final) - len(merged)
    return f"{' and '.join(parts)}; {untouched} stay{'' if untouched != 1 else 's'} whole"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _source_tile(layer: int, piece: Piece | None, layers: int, channels: int, kv_groups: int) -> list[_Block]:
    """A layer as it is: what is kept solid at the bottom of each part, the rest hatched above it."""
    kept_channels, kept_groups = (piece.channels, piece.kv_groups) if piece else (0, 0)
    shade = theme.layer_color(layer, layers)
    words = (
        f"<b>layer {layer}</b><br>keeps {kept_channels:,} of {channels:,} feed-forward channels"
        f"<br>and {kept_groups} of {_count(kv_groups, 'key/value group')}"
    )
    blocks = []
    for (low, height), share in (
        (FEED_FORWARD, kept_channels / channels),
        (ATTENTION, kept_groups / kv_groups),
    ):
        if share > 0:
            blocks.append(_Block(layer, BEFORE + low, height * share, shade, words))
        if share < 1:
            blocks.append(
                _Block(
                    layer,
                    BEFORE + low + height * share,
                    height * (1 - share),
                    theme.QUIET,
                    words,
                    hatched=True,
                )
            )
    return blocks


def _new_tile(
    x: float, place: int, pieces: Sequence[Piece], layers: int, channels: int, kv_groups: int
) -> list[_Block]:
    """A layer of the pruned model: its pieces, the first source on top, as Inspect has them."""
    blocks = []
    for (low, height), whole, unit in (
        (FEED_FORWARD, channels, "feed-forward channel"),
        (ATTENTION, kv_groups, "key/value group"),
    ):
        bottom = AFTER + low
        for piece in reversed(pieces):
            count = piece.channels if unit.startswith("feed") else piece.kv_groups
            if count == 0:
                continue
            share = f"{_count(count, unit)} ({count / whole:.0%})"
            words = f"<b>new layer {place}</b><br>{share}<br>from layer {piece.layer}"
            size = height * count / whole
            seam = min(SEAM, size / 2) if bottom > AFTER + low else 0.0
            shade = theme.layer_color(piece.layer, layers)
            blocks.append(_Block(x, bottom + seam, size - seam, shade, words))
            bottom += size
    return blocks


def _bars(blocks: Sequence[_Block], hatched: bool = False) -> go.Bar:
    marker: dict = {"color": [block.color for block in blocks], "line": {"width": 0}}
    if hatched:
        marker["pattern"] = {
            "shape": "/",
            "size": 5,
            "solidity": 0.18,
            "fgcolor": HATCH,
            "bgcolor": "rgba(128,134,145,0.10)",
        }
    return go.Bar(
        x=[block.x for block in blocks],
        y=[block.height for block in blocks],
        base=[block.y for block in blocks],
        width=TILE,
        marker=marker,
        hovertext=[block.text for block in blocks],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _numbers(xs: Iterable[float], labels: Iterable[int], y: float, layers: int, word: str) -> go.Scatter:
    """Every layer's number where there is room even on a telephone, else every fifth or tenth."""
    step = 1 if layers <= 12 else 5 if layers <= 48 else 10
    shown = [(x, label) for x, label in zip(xs, labels, strict=True) if label % step == 0]
    return go.Scatter(
        x=[x for x, _ in shown],
        y=[y] * len(shown),
        mode="text",
        text=[f"{word} {label}" if label == 0 else str(label) for _, label in shown],
        cliponaxis=False,
        textfont={"size": 11, "color": theme.INK},
        hoverinfo="skip",
    )


def _ribbon(source: float, target: float, shade: str, opacity: float) -> dict:
    half = TILE / 2
    top, bottom = BEFORE - 0.03, AFTER + 1.03
    bend = (top + bottom) / 2
    path = (
        f"M{source - half},{top} C{source - half},{bend} {target - half},{bend} {target - half},{bottom} "
        f"L{target + half},{bottom} C{target + half},{bend} {source + half},{bend} {source + half},{top} Z"
    )
    return {
        "type": "path",
        "path": path,
        "fillcolor": shade,
        "opacity": opacity,
        "line": {"width": 0},
        "layer": "below",
    }


def _outline(x: float) -> dict:
    half = TILE / 2 + 0.02
    return {
        "type": "rect",
        "x0": x - half,
        "x1": x + half,
        "y0": AFTER - 0.04,
        "y1": AFTER + 1.04,
        "line": {"color": theme.INK, "width": 1},
        "layer": "above",
    }
