"""A copy behind each of some layers: the plainest way to grow."""

from __future__ import annotations

from come.growing.growth import GrownLayer, GrowTask, copied, evenly, with_new
from come.growing.registry import register
from come.options import Options


@register(
    "duplicate",
    title="Duplication",
    paper="",
    summary="A copy of a layer behind it, at equal distances or where it is told.",
    most=lambda layers: 2 * layers,
)
def duplicate(task: GrowTask, options: Options) -> list[GrownLayer]:
    """The grown model's layers."""
    layers = task.bundle.layers
    after = task.after or evenly(len(layers), task.more)
    return with_new(task, after, lambda number: copied(layers[number]))
