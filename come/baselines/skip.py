"""Uniform static layer skipping (Glavas et al. 2024, "Dynamic layer selection ...", arXiv 2410.20022)."""

from __future__ import annotations

from come.baselines.options import NoOptions
from come.baselines.removal import remove
from come.merge.registry import Task, register
from come.merge.result import Result


@register(
    "skip",
    title="Uniform skipping",
    paper="Glavas et al. 2024, arXiv 2410.20022",
    summary="Keep layers at equal distances from the first to the last, and remove those between.",
    options=NoOptions,
    cost="Nothing: no text is read.",
)
def skip(task: Task, _options: NoOptions) -> Result:
    """Remove what ``evenly_spaced`` does not keep."""
    layers = len(task.original.layers)
    if task.plan.steps:
        return Result(task.current, task.plan)
    return remove(task, set(range(layers)) - set(evenly_spaced(layers, task.target_layers)))


def evenly_spaced(layers: int, count: int) -> list[int]:
    """``count`` of ``layers`` layers: number j is j * (layers - 1) / (count - 1), rounded, halves up.

    The first and the last are among them (of one alone, the first), and the gaps differ by at most one.
    """
    if count == 1:
        return [0]
    return [(2 * each * (layers - 1) + count - 1) // (2 * (count - 1)) for each in range(count)]
