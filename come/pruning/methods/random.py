"""Random removal: the reference point of chance."""

from __future__ import annotations

import random as randomness

from pydantic import Field

from come.pruning.forecast import Forecast, Known
from come.pruning.method import Task
from come.pruning.options import RemovalOptions
from come.pruning.registry import register
from come.pruning.removal import remove
from come.pruning.result import Result


class RandomOptions(RemovalOptions):
    """Which random choice."""

    seed: int = Field(0, description="The same seed gives the same choice.")


def chosen(layers: int, target: int, seed: int) -> list[int]:
    """Layers chosen by chance, in the order of the draw."""
    return randomness.Random(seed).sample(range(layers), layers - target)


def forecast(known: Known, options: RandomOptions) -> Forecast:
    """The choice of the seed, whatever the model does."""
    return Forecast(removed=sorted(chosen(known.layers, known.target_layers, options.seed)))


@register(
    "random",
    title="Random",
    paper="",
    summary="Remove layers chosen by chance, with a seed.",
    kind="remove",
    options=RandomOptions,
    cost="Nothing: no text is read.",
    reference=True,
    forecast=forecast,
)
def random(task: Task, options: RandomOptions) -> Result:
    """Remove randomly ``chosen`` layers."""
    if task.finished:
        return Result(task.current, task.plan)
    return remove(task, options, chosen(len(task.original.layers), task.target_layers, options.seed))
