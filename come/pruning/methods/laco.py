"""LaCo: rear layers collapse into a prior one (Yang, Cao, Zhao 2024, arXiv 2402.11187, algorithm 1)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from pydantic import Field

from come.errors import ComeError
from come.pruning.collapse import CollapseOptions, Score, Windows, collapse, work
from come.pruning.common import check_averages_reach
from come.pruning.method import Task
from come.pruning.registry import register
from come.pruning.result import Result
from come.pruning.windows import Window


class LaCoOptions(CollapseOptions):
    """Which windows LaCo tries, and how it judges them (``CollapseOptions``)."""

    window: int = Field(
        4,
        ge=2,
        description="How many layers one merge takes (C; the published program 7 for Llama 13B, 3 for Baichuan 13B); "
        "the last one fewer where the target is nearer.",
    )
    interval: int = Field(
        2, ge=1, description="How far below a merge the next one is tried (I; the published program: 1)."
    )
    lowest: int = Field(0, ge=0, description="The lowest layer that others may be merged into (L).")
    highest: int | None = Field(
        None,
        ge=1,
        description="The highest layer that may be merged (H), counted from 0; empty for the last. The published "
        "program leaves the last one out of its first window only.",
    )
    walk: Literal["paper", "published"] = Field(
        "paper",
        description="Where the next window lies. paper: as high as the layers that are left allow, of full length. "
        "published: interval layers lower, of the layers that are left there, which after a merge are fewer.",
    )

    def check(self, model: Any, layers: int, target: int) -> None:
        """Refuse bounds between which there is nothing to merge.

        Raises:
            ComeError: they are above the model, or not in order.
        """
        highest = self.highest if self.highest is not None else layers - 1
        if not self.lowest < highest < layers:
            raise ComeError(
                f"Between layers {self.lowest} and {highest} of 0 to {layers - 1} there is nothing to merge.",
                "Give a lowest below a highest, both of the model.",
            )


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
    highest = options.highest if options.highest is not None else layers - 1
    if task.target_layers < layers:
        check_averages_reach(task.original, task.target_layers, highest, options.lowest)
    plan = Walk(options.window, options.interval, options.lowest, layers - 1 - highest, options.walk == "published")
    return collapse(task, options, partial(laco_windows, layers, task.target_layers, walk=plan))


@dataclass(frozen=True)
class Walk:
    """How windows follow one another from the top down.

    Attributes:
        window, interval: how many layers a merge takes, and how far below it the next is tried.
        lowest: the lowest layer that others are merged into.
        above: how many of the highest layers are left alone.
        published: as the published program goes on after a merge.
    """

    window: int
    interval: int
    lowest: int = 0
    above: int = 0
    published: bool = False


def laco_windows(layers: int, target: int, threshold: float, score: Score, walk: Walk) -> Windows:
    """The windows that one walk from the top accepts.

    The walk starts with the top ``window`` layers. Where the similarity exceeds the threshold, they become one layer
    and the next try starts ``interval`` layers lower, or as high as the layers left allow; else one layer lower. It
    ends at the target or at the bottom. Only where every merge is accepted and the bottom still comes first does it
    start over from the top, which the paper does not need.
    """
    taken: Windows = ()
    if walk.published and threshold > -math.inf:
        return _published(layers, target, threshold, score, walk)
    while True:
        more = _walk(layers, target, threshold, score, walk, taken)
        if more == taken or threshold > -math.inf:
            return more
        taken = more


def _walk(layers: int, target: int, threshold: float, score: Score, walk: Walk, taken: Windows) -> Windows:
    left = layers - sum(last - first for first, last in taken)
    first = left
    while left > target and first >= walk.lowest:
        size = min(walk.window, left - target + 1, left - walk.above - walk.lowest)
        first = min(first, left - walk.above - size)
        window = _accepted(taken, first, size, threshold, score)
        if window is not None:
            taken = (*taken, window)
            left -= window[1] - window[0]
            first -= walk.interval
        else:
            first -= 1
    return taken


def _published(layers: int, target: int, threshold: float, score: Score, walk: Walk) -> Windows:
    """The same as the published program walks; only a window that would go past the target is cut short.

    A merge that finds no layer above its first leaves all as it is, and counts as accepted.
    """
    left = layers
    taken: Windows = ()
    first = max(walk.lowest, layers - walk.above - walk.window)
    while left > target and first >= walk.lowest:
        size = min(walk.window, left - first)
        window = _accepted(taken, first, size, threshold, score) if size > 1 else (first, first)
        if window is None:
            first -= 1
            continue
        if size > 1:
            more = min(window[1] - first, left - target)
            taken = (*taken, (first, first + more))
            left -= more
        first -= walk.interval
        if first >= left:
            first = left - 1 - walk.window
    return taken


def _accepted(taken: Windows, first: int, size: int, threshold: float, score: Score) -> Window | None:
    """The window of so many layers, shorter where layers of another kind begin, if it is alike enough."""
    similarity = score(taken, (first, first + size - 1))
    while similarity is None and size > 2:
        size -= 1
        similarity = score(taken, (first, first + size - 1))
    return (first, first + size - 1) if similarity is not None and similarity > threshold else None
