"""The ribbons of a plan as a drawing (SVG): the original's layers above, the new ones below, what was kept between."""

from __future__ import annotations

from collections.abc import Iterator

from come.plan.provenance import Layer, Piece, Provenance
from come.report.colors import HATCH, QUIET, layer_color
from come.report.html.elements import Html, element

WIDE, TILE = 960.0, 0.84  # of the drawing; of a layer, its slot being 1
TOP, BOTTOM, HIGH = 20.0, 150.0, 26.0  # upper edges of the two rows of layers, and how high they are
MOST_LAYERS = 512  # beyond it a layer is thinner than a line

# What is dropped is hatched, what is averaged striped: drawn once, for all drawings of a document.
PATTERNS = element(
    "svg",
    element(
        "defs",
        *(
            element(
                "pattern",
                element("rect", width=5, height=5, fill=ground),
                element("path", d="M0,0V5", stroke=line, stroke_width=2),
                id=name,
                width=5,
                height=5,
                patternUnits="userSpaceOnUse",
                patternTransform="rotate(45)",
            )
            for name, ground, line in (
                ("dropped", "none", HATCH),
                ("striped", "none", "rgba(255, 255, 255, 0.5)"),
            )
        ),
    ),
    class_="patterns",
    width=0,
    height=0,
    aria_hidden="true",
)


def ribbons(origins: Provenance) -> Html | None:
    """The drawing of one part followed through a plan; None where there are too many layers to draw."""
    if origins.layers > MOST_LAYERS:
        return None
    name = f"{origins.layers} layers became {len(origins.final)}: which of the original's are in which of the new ones"
    return element(
        "svg",
        *_bands(origins),
        *_sources(origins),
        *_new_layers(origins),
        *_numbers(origins.layers, origins.layers, TOP - 6, "layer"),
        *_numbers(len(origins.final), origins.layers, BOTTOM + HIGH + 14, "new"),
        viewBox=f"0 0 {WIDE:g} {BOTTOM + HIGH + 20:g}",
        class_="ribbons",
        role="img",
        aria_label=name,
    )


def _bands(origins: Provenance) -> Iterator[Html]:
    for place, layer in enumerate(origins.final):
        for piece, left, right in _pieces(origins, place, layer):
            if piece.kind == "silenced":
                continue
            start, slot = _slot(piece.source, WIDE / origins.layers)
            end = start + slot * (piece.count / origins.units if piece.kind == "kept" else 1.0)
            upper, lower = TOP + HIGH, BOTTOM
            bend = (upper + lower) / 2
            path = (
                f"M{start:.1f},{upper:g}C{start:.1f},{bend:g} {left:.1f},{bend:g} {left:.1f},{lower:g}"
                f"H{right:.1f}C{right:.1f},{bend:g} {end:.1f},{bend:g} {end:.1f},{upper:g}Z"
            )
            untouched = layer.group == (piece.source,)
            yield element(
                "path",
                element("title", f"{_words(piece, origins)}, to new layer {place}"),
                d=path,
                fill=layer_color(piece.source, origins.layers),
                fill_opacity=0.25 if untouched else 0.6,
            )


def _sources(origins: Provenance) -> Iterator[Html]:
    """Each layer of the original: what lives on in its colour, what was lost hatched."""
    for source in range(origins.layers):
        left, slot = _slot(source, WIDE / origins.layers)
        lost = slot * sum(loss.count for loss in origins.losses(source)) / origins.units
        if lost < slot:
            yield _block(left, slot - lost, TOP, layer_color(source, origins.layers), f"layer {source}")
        if lost:
            share = lost / slot
            words = f"layer {source}: {share:.0%} dropped" if share < 1 else f"layer {source}: removed"
            yield _block(left + slot - lost, lost, TOP, QUIET, words)
            yield _block(left + slot - lost, lost, TOP, "url(#dropped)", words)


def _new_layers(origins: Provenance) -> Iterator[Html]:
    for place, layer in enumerate(origins.final):
        for piece, left, right in _pieces(origins, place, layer):
            gone = piece.kind == "silenced"
            color = QUIET if gone else layer_color(piece.source, origins.layers)
            words = f"new layer {place}: {_words(piece, origins)}"
            yield _block(left, right - left, BOTTOM, color, words)
            if piece.kind != "kept":
                yield _block(left, right - left, BOTTOM, "url(#dropped)" if gone else "url(#striped)", words)


def _pieces(origins: Provenance, place: int, layer: Layer) -> Iterator[tuple[Piece, float, float]]:
    """The pieces of a new layer, each with its left and its right edge."""
    left, slot = _slot(place, WIDE / len(origins.final), WIDE / origins.layers)
    for piece in layer.pieces:
        yield piece, left, left + slot * piece.share
        left += slot * piece.share


def _slot(place: int, pitch: float, wide: float | None = None) -> tuple[float, float]:
    """Left edge and width of a layer, where layers lie `pitch` apart and are as wide as those that lie `wide` apart."""
    width = TILE * (wide or pitch)
    return (place + 0.5) * pitch - width / 2, width


def _block(left: float, width: float, top: float, fill: str, words: str) -> Html:
    title = element("title", words)
    return element("rect", title, x=f"{left:.1f}", y=f"{top:g}", width=f"{width:.1f}", height=f"{HIGH:g}", fill=fill)


def _numbers(count: int, layers: int, y: float, word: str) -> Iterator[Html]:
    """Every layer's number where there is room, else every fifth or tenth."""
    step = 1 if layers <= 40 else 5 if layers <= 120 else 10
    for place in range(0, count, step):
        middle = (place + 0.5) * WIDE / count
        text = f"{word} {place}" if place == 0 and step > 1 else str(place)
        yield element("text", text, x=f"{middle:.1f}", y=f"{y:g}")


def _words(piece: Piece, origins: Provenance) -> str:
    if piece.kind == "averaged":
        return f"layer {piece.source}, averaged in with weight {piece.weight:.3g}"
    if origins.units == 1:
        return f"layer {piece.source}, whole"
    amount = f"{piece.count:,} of {origins.units:,} FFN channels"
    return f"{amount} silenced" if piece.kind == "silenced" else f"{amount} of layer {piece.source}"
