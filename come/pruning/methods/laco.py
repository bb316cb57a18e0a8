"""LaCo: rear layers collapse into a prior one (Yang, Cao, Zhao 2024, arXiv 2402.11187, algorithm 1)."""

from __future__ import annotations

import math
from functools import partial

from pydantic import Field

from come.pruning.collapse import CollapseOptions, Score, Windows, collapse, work
from come.pruning.common import check_averages_reach
from come.pruning.method import Task
from come.pruning.registry import register
from come.pruning.result import Result


class LaCoOptions(CollapseOptions):
    """Which windows LaCo tries, and how it judges them (``CollapseOptions``)."""

    window: int = Field(
        4, ge=2, description="How many layers one merge takes (C); the last one fewer where the target is nearer."
    )
    interval: int = Field(2, ge=1, description="How far below a merge the next one is tried (I).")


@register(
    "laco",
    title="LaCo",
    paper="Yang, Cao and Zhao 2024, arXiv 2402.11187",
    summary="Collapse windows of layers into their first, from the top, while the last hidden state stays alike.",
    kind="average",
    options=LaCoOptions,
    needs=("forward",),
    cost="Some hundred times the layers above a window, on the first 10 calibration sequences cut to 128 tokens.",
    work=work,
)
def laco(task: Task, options: LaCoOptions) -> Result:
    """Collapse windows of layers from the top down, by the largest threshold that reaches the target."""
    layers = len(task.original.layers)
    check_averages_reach(task.original, task.target_layers, layers - 1)
    search = partial(laco_windows, layers, task.target_layers, window=options.window, interval=options.interval)
    return collapse(task, options, search)


def laco_windows(layers: int, target: int, threshold: float, score: Score, window: int, interval: int) -> Windows:
    """The windows that one walk from the top accepts.

    The walk starts with the top ``window`` layers. Where the similarity exceeds the threshold, they become one layer
    and the next try starts ``interval`` layers lower, or as high as the layers left allow; else one layer lower. It
    ends at the target or at the bottom. Only where every merge is accepted and the bottom still comes first does it
    start over from the top, which the paper does not need.
    """
    taken: Windows = ()
    while True:
        more = _walk(layers, target, threshold, score, window, interval, taken)
        if more == taken or threshold > -math.inf:
            return more
        taken = more


def _walk(
    layers: int, target: int, threshold: float, score: Score, window: int, interval: int, taken: Windows
) -> Windows:
    left = layers - sum(last - first for first, last in taken)
    first = left
    while left > target and first >= 0:
        size = min(window, left - target + 1)
        first = min(first, left - size)
        similarity = score(taken, (first, first + size - 1))
        while similarity is None and size > 2:  # up to where layers of another kind begin
            size -= 1
            similarity = score(taken, (first, first + size - 1))
        if similarity is not None and similarity > threshold:
            taken = (*taken, (first, first + size - 1))
            left -= size - 1
            first -= interval
        else:
            first -= 1
    return taken
