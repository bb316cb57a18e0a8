"""Inheritune: start a smaller model from the first layers of a larger one (Sanyal et al. 2024, arXiv 2404.08634)."""

from __future__ import annotations

from come.pruning.forecast import Forecast, Known
from come.pruning.method import Task
from come.pruning.options import RemovalOptions
from come.pruning.registry import register
from come.pruning.removal import remove
from come.pruning.result import Result


def forecast(known: Known, _options: RemovalOptions) -> Forecast:
    """All but the first layers, whatever the model does."""
    return Forecast(
        removed=list(range(known.target_layers, known.layers)), doubt="the training that belongs to it comes after"
    )


@register(
    "inheritune",
    title="Inheritune",
    paper="Sanyal et al. 2024, arXiv 2404.08634",
    summary="Keep the first layers, the embeddings and the head; the recovery grow trains them and adds the next ones.",
    kind="remove",
    options=RemovalOptions,
    cost="Nothing: no text is read; the training that follows costs what recovery costs.",
    forecast=forecast,
)
def inheritune(task: Task, options: RemovalOptions) -> Result:
    """Keep the first ``target_layers`` layers."""
    if task.finished:
        return Result(task.current, task.plan)
    return remove(task, options, range(task.target_layers, len(task.original.layers)))
