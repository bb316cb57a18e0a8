"""How a method's line looks in every chart: its colour, marker and dash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from come.pruning import registry
from come.pruning.registry import concatenates
from come.report.colors import ACCENT, CATEGORIES

CHANCE = CATEGORIES[4]  # grey: random removal is the reference, not a rival
COLORS = [color for color in CATEGORIES if color not in (ACCENT, CHANCE)]
MARKERS = (
    "square",
    "diamond",
    "triangle-up",
    "x",
    "triangle-down",
    "star-square",
    "hexagon",
    "cross",
    "star-triangle-up",
)
DASHES = ("solid", "dash", "dot", "dashdot")


@dataclass(frozen=True)
class Style:
    """Of a method's line: plotly's colour, marker symbol and dash, and the line's width in pixels."""

    color: str
    marker: str
    dash: str
    width: float = 1.5


# Methods that merge, the one to begin with first, the others by name: shades of blue, each with a marker of its own.
FAMILY = (
    Style(ACCENT, "circle", "solid", 3.0),
    Style("#8d9bc9", "circle-cross", "dashdot", 1.5),
    Style("#5c6fd6", "diamond-wide", "dash", 1.5),
    Style("#3fa7c4", "pentagon", "dot", 1.5),
)


def style(method: str, methods: Sequence[str] = (), variant: int = 0) -> Style:
    """The look of a method.

    The method to begin with has the accent colour and the heaviest line, its family shades of it; random removal is
    grey.

    Args:
        method: its registered name.
        methods: all that there are, in order, so that a look does not depend on which of them are shown.
        variant: 0 for the method as it is; more for those run with other options, which have hollow markers.
    """
    look = _look(method, [name for name in methods if not concatenates(name) and name != "random"])
    if not variant:
        return look
    dash = DASHES[(DASHES.index(look.dash) + variant) % len(DASHES)]
    return Style(look.color, f"{look.marker}-open", dash, look.width)


def color(method: str) -> str:
    """The colour of a method, the same on every page and in reports."""
    return style(method, list(registry.methods())).color


def _look(method: str, others: list[str]) -> Style:
    if concatenates(method):
        known = registry.methods()
        family = sorted(filter(concatenates, known), key=lambda name: not known[name].begins)
        return FAMILY[family.index(method) % len(FAMILY)]
    if method == "random":
        return Style(CHANCE, "cross", "dot")
    place = others.index(method) if method in others else 0
    return Style(COLORS[place % len(COLORS)], MARKERS[place % len(MARKERS)], DASHES[place // len(COLORS) % len(DASHES)])
