"""What the methods that remove whole layers have in common: one step."""

from __future__ import annotations

from collections.abc import Iterable

from come.events import emit
from come.merge.concatenate import take_step
from come.merge.plan import Remove
from come.merge.rebuild import with_plan
from come.merge.registry import Task
from come.merge.result import Result, StepRecord


def remove(task: Task, layers: Iterable[int], block_influence: tuple[float, ...] = (), seconds: float = 0.0) -> Result:
    """Remove layers of the original model, all in one step."""
    gone = sorted(layers)
    if not gone:
        return Result(task.current, task.plan)
    step = Remove(layers=gone)
    plan = task.plan.with_step(step)
    bundle = with_plan(take_step(task.original, step), plan)
    task.done(plan)
    emit(task.on_progress, "compress", 1000, 1000, step.describe(), layers=len(bundle.layers))
    history = [
        StepRecord((layer, layer), block_influence=block_influence, seconds=seconds / len(gone)) for layer in gone
    ]
    return Result(bundle, plan, history)
