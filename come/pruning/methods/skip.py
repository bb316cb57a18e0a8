"""Uniform static layer skipping (Glavas et al. 2024, "Dynamic layer selection ...", arXiv 2410.20022)."""

from __future__ import annotations

from come.pruning.forecast import Forecast, Known
from come.pruning.method import Task
from come.pruning.options import RemovalOptions
from come.pruning.registry import register
from come.pruning.removal import remove
from come.pruning.result import Result


def forecast(known: Known, _options: RemovalOptions) -> Forecast:
    """What lies between the layers kept, whatever the model does."""
    return Forecast(removed=sorted(between(known.layers, known.target_layers)))


@register(
    "skip",
    title="Uniform skipping",
    paper="Glavas et al. 2024, arXiv 2410.20022",
    summary="Keep layers at equal distances from the first to the last, and remove those between.",
    kind="remove",
    options=RemovalOptions,
    cost="Nothing: no text is read.",
    forecast=forecast,
)
def skip(task: Task, options: RemovalOptions) -> Result:
    """Remove what lies ``between``."""
    if task.finished:
        return Result(task.current, task.plan)
    return remove(task, options, between(len(task.original.layers), task.target_layers))


def between(layers: int, count: int) -> set[int]:
    """The layers that ``evenly_spaced`` does not keep."""
    return set(range(layers)) - set(evenly_spaced(layers, count))


def evenly_spaced(layers: int, count: int) -> list[int]:
    """``count`` of ``layers`` layers: number j is j * (layers - 1) / (count - 1), rounded, halves up.

    The first and the last are among them (of one alone, the first), and the gaps differ by at most one.
    """
    if count == 1:
        return [0]
    return [(2 * each * (layers - 1) + count - 1) // (2 * (count - 1)) for each in range(count)]
