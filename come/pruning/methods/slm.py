"""SLM: windows grow and slide down while the last hidden state stays alike (Ding et al. 2025, arXiv 2502.19159).

The published program merges with ``formula="published"`` over a threshold of 0.72. It has no target, and forgets a
window that is still growing at the bottom.
"""

from __future__ import annotations

from functools import partial

from pydantic import Field

from come.pruning.collapse import CollapseOptions, Score, Windows, collapse, work
from come.pruning.common import check_averages_reach
from come.pruning.method import Task
from come.pruning.registry import register
from come.pruning.result import Result


class SLMOptions(CollapseOptions):
    """Where SLM starts, and how it judges a window (``CollapseOptions``)."""

    keep_last: bool = Field(True, description="Leaves the very last layer as it is, as the published program does.")


@register(
    "slm",
    title="Sliding-layer merging",
    paper="Ding et al. 2025, arXiv 2502.19159",
    summary="Merge windows of layers that grow downwards from the top while the last hidden state stays alike.",
    kind="average",
    options=SLMOptions,
    needs=("forward",),
    cost="Some hundred times the layers above a window, on the first 10 calibration sequences cut to 128 tokens.",
    work=work,
)
def slm(task: Task, options: SLMOptions) -> Result:
    """Merge windows that grow from the top, by the largest threshold that reaches the target."""
    highest = len(task.original.layers) - (2 if options.keep_last else 1)
    if task.target_layers < len(task.original.layers):
        check_averages_reach(task.original, task.target_layers, highest)
    to_go = len(task.original.layers) - task.target_layers
    return collapse(task, options, partial(slm_windows, highest, to_go))


def slm_windows(highest: int, to_go: int, threshold: float, score: Score) -> Windows:
    """The windows that one slide from the top makes.

    A window starts at layer ``highest`` and takes in the layer below as long as the similarity with all of it merged
    exceeds the threshold. The layer that it stops at is the top of the next window; where not even two layers may
    merge, the top moves down by one. It ends when ``to_go`` layers are gone, or at the bottom.
    """
    taken: Windows = ()
    while highest > 0 and to_go > 0:
        first = highest
        while first > 0 and highest - first < to_go:
            similarity = score(taken, (first - 1, highest))
            if similarity is None or similarity <= threshold:
                break
            first -= 1
        if first < highest:
            taken = (*taken, (first, highest))
            to_go -= highest - first
        highest = first - 1
    return taken
