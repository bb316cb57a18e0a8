"""The colours that charts and pictures carry data in, on the page and in reports.

Each is legible on white and on black, so that nothing here knows of a light or dark theme.
"""

from __future__ import annotations

ACCENT = "#2f7fd1"  # data without a layer of its own: curves, bars
MARK = "#e8553a"  # what is chosen or found best; stands out from both scales
QUIET = "rgba(128, 136, 148, 0.45)"  # what is dropped, or only for reference
HAIRLINE = "rgba(128, 136, 148, 0.28)"
HATCH = "rgba(128, 136, 148, 0.85)"  # the lines over what is dropped
ORIGINAL = "#858d99"  # the model as it was

# Parts of a model and methods: fixed order, told apart in the common colour blindnesses and by lightness.
CATEGORIES = ["#2f7fd1", "#d98324", "#2a9d8f", "#9a63b5", "#8c8c8c", "#b8446e"]

# Depth of a source layer: anchors from the first layer to the last.
_DEPTH = ["#3d5fc4", "#2f93c0", "#56b0a5", "#a9b86b", "#e3b04b", "#dd7f3f", "#b8506f", "#84489c"]


def layer_color(layer: int, layers: int) -> str:
    """The colour of one source layer, the same everywhere.

    Hue follows depth; every second layer is a little darker, so that neighbours, which are what gets
    merged, can be told apart.

    Args:
        layer: index of the original layer, 0 .. layers - 1.
        layers: how many layers the original model has.

    Returns:
        A hex colour.
    """
    mixed = _mix(_DEPTH, layer / max(layers - 1, 1))
    shade = 0.82 if layer % 2 else 1.0
    return _hex([channel * shade for channel in mixed])


def rgb(color: str) -> list[int]:
    """The three channels of a hex colour, each 0..255."""
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def _mix(anchors: list[str], position: float) -> list[float]:
    """The colour at a position 0..1 along evenly spaced anchors, as three numbers 0..255."""
    scaled = min(max(position, 0.0), 1.0) * (len(anchors) - 1)
    low = min(int(scaled), len(anchors) - 2)
    first, second = rgb(anchors[low]), rgb(anchors[low + 1])
    return [a + (b - a) * (scaled - low) for a, b in zip(first, second, strict=True)]


def _hex(channels: list[float]) -> str:
    return "#" + "".join(f"{min(max(round(value), 0), 255):02x}" for value in channels)
