"""What the methods that average layers share: which layers can be averaged, and taking the steps once known."""

from __future__ import annotations

from collections.abc import Sequence

from come.errors import ComeError
from come.events import emit
from come.models import Bundle
from come.models.depth import attention_kind
from come.plan.steps import Average
from come.pruning.registry import Task
from come.pruning.result import Result, StepRecord
from come.transforms.apply_step import apply_step
from come.transforms.compatible import mixable
from come.transforms.rebuild import with_plan


def averageable(bundle: Bundle, first: int, last: int) -> bool:
    """Whether layers ``first`` to ``last`` mean the same by their weights: one attention kind, one rotary table."""
    kinds = {attention_kind(bundle.model.config, layer) for layer in range(first, last + 1)}
    return len(kinds) == 1 and mixable(bundle, first, last) is None


def check_averages_reach(bundle: Bundle, target_layers: int, highest: int) -> None:
    """Refuse a target that averaging neighbours among layers 0 to ``highest`` cannot reach.

    Raises:
        ComeError: says how few layers can be left.
    """
    pairs = sum(averageable(bundle, layer, layer + 1) for layer in range(highest))
    fewest = len(bundle.layers) - pairs
    if target_layers < fewest:
        kept = "" if highest == len(bundle.layers) - 1 else " with the last layer kept"
        raise ComeError(
            f"A target of {target_layers} layers is out of reach: layers of different kinds are not averaged, "
            f"and {fewest} are left when all others are{kept}.",
            f"Give a target of {fewest} or more, or choose another method.",
        )


def take_averages(task: Task, steps: Sequence[Average], seconds: float) -> Result:
    """Take the steps that ``task.plan`` has not taken yet.

    Args:
        task: what the method was given.
        steps: all steps from the original model to the target.
        seconds: how long it took to decide on them.
    """
    bundle, plan = task.current, task.plan
    history: list[StepRecord] = []
    for number, step in enumerate(steps[len(plan.steps) :], start=len(plan.steps) + 1):
        bundle, plan = apply_step(bundle, step), plan.with_step(step)
        history.append(StepRecord(step.window, tuple(step.weights), seconds=seconds / len(steps)))
        task.done(plan)
        emit(
            task.on_progress,
            "compress",
            900 + 100 * number // len(steps),
            1000,
            step.describe(),
            window=list(step.window),
            layers=len(bundle.layers),
        )
    return Result(with_plan(bundle, plan), plan, history)
