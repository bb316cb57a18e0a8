"""What the methods that remove whole layers have in common: which score lowest, and one step that takes them out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from come.events import emit
from come.plan.steps import Remove
from come.pruning.registry import Task
from come.pruning.result import Result, StepRecord
from come.transforms.apply_step import apply_step
from come.transforms.rebuild import with_plan


def lowest(scores: Tensor, count: int, among: Sequence[int] | None = None) -> list[int]:
    """The ``count`` layers of lowest score, lowest first, the first on ties.

    Args:
        scores: of every layer, (layers,).
        count: how many.
        among: the layers that are looked at; all by default.
    """
    layers = torch.arange(len(scores)) if among is None else torch.tensor(among, dtype=torch.long)
    return layers[torch.sort(scores[layers], stable=True).indices[:count]].tolist()


def remove(task: Task, layers: Iterable[int], block_influence: tuple[float, ...] = (), seconds: float = 0.0) -> Result:
    """Remove layers of the original model, all in one step."""
    gone = sorted(layers)
    if not gone:
        return Result(task.current, task.plan)
    step = Remove(layers=gone)
    plan = task.plan.with_step(step)
    bundle = with_plan(apply_step(task.original, step), plan)
    task.done(plan)
    emit(task.on_progress, "compress", 1000, 1000, step.describe(), layers=len(bundle.layers))
    history = [
        StepRecord((layer, layer), block_influence=block_influence, seconds=seconds / len(gone)) for layer in gone
    ]
    return Result(bundle, plan, history)
