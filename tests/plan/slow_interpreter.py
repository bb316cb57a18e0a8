"""A plan's steps read a second time, plainly and without ``Plan.walk``: what come.plan is held against."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from come.plan.plan import Plan
from come.plan.steps import Average, Concatenate, Mask, Remove

Unit = tuple[int, int] | None
"""An original layer and the index of a KV group or FFN channel in it; None for an average and for a silenced unit."""


@dataclass(frozen=True)
class SecondReading:
    """For each layer of a pruned model the original layers that it stands for, and its units in their order."""

    groups: list[list[int]]
    kv_groups: list[list[Unit]]
    channels: list[list[Unit]]


def read_again(plan: Plan, kv_heads: int, channels: int) -> SecondReading:
    """Follow every layer and unit through a plan's steps.

    Args:
        plan: how the model was pruned.
        kv_heads, channels: how many KV groups and FFN channels a layer has.
    """
    groups = [[layer] for layer in range(plan.base.layers)]
    kv_rows: list[list[Unit]] = [[(layer, index) for index in range(kv_heads)] for [layer] in groups]
    channel_rows: list[list[Unit]] = [[(layer, index) for index in range(channels)] for [layer] in groups]
    both = (kv_rows, channel_rows)
    for step in plan.steps:
        if isinstance(step, Concatenate | Average):
            first, last = step.window
            groups[first : last + 1] = [[layer for group in groups[first : last + 1] for layer in group]]
        match step:
            case Concatenate():
                for rows, kept in zip(both, (step.kv_groups, step.channels), strict=True):
                    rows[first : last + 1] = [[rows[first + i][j] for i, those in enumerate(kept) for j in those]]
            case Average():
                entering = [first + i for i, weight in enumerate(step.weights) if weight]
                for rows in both:
                    alone = rows[entering[0]] if len(entering) == 1 else [None] * len(rows[first])
                    rows[first : last + 1] = [alone]
            case Remove():
                each: list[Any]
                for each in (groups, *both):
                    for layer in reversed(step.layers):
                        del each[layer]
            case Mask():
                for rows, silenced in zip(both, (step.kv_groups, step.channels), strict=True):
                    for layer, indices in silenced.items():
                        rows[layer] = [None if at in indices else unit for at, unit in enumerate(rows[layer])]
    return SecondReading(groups, kv_rows, channel_rows)
