"""Random removal: the reference point of chance."""

from __future__ import annotations

import random as randomness
from dataclasses import dataclass

from come.baselines.removal import remove
from come.merge.registry import Task, register
from come.merge.result import Result


@dataclass(frozen=True)
class RandomOptions:
    """Which random choice.

    Attributes:
        seed: the same seed removes the same layers.
    """

    seed: int = 0


@register(
    "random",
    title="Random",
    paper="",
    summary="Remove layers chosen by chance, with a seed.",
    options=RandomOptions,
    cost="Nothing: no text is read.",
)
def random(task: Task, options: RandomOptions) -> Result:
    """Remove randomly chosen layers."""
    layers = len(task.original.layers)
    if task.plan.steps:
        return Result(task.current, task.plan)
    gone = randomness.Random(options.seed).sample(range(layers), layers - task.target_layers)
    return remove(task, gone)
