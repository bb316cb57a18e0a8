"""Where every unit of a pruned model comes from, told plainly: what the quick way is held against."""

from __future__ import annotations

from dataclasses import dataclass

from come.plan.plan import Plan
from come.plan.steps import Average, Concatenate, Mask, Remove

Unit = tuple[int, int]
"""An original layer, and the index of a KV group or FFN channel in it."""


@dataclass(frozen=True)
class Provenance:
    """The pieces of a pruned model's layers.

    Attributes:
        groups: the original layers that each layer stands for; a removed one is in none.
        kv_groups, channels: for each layer, the units that it has, in their order; none where they are averages of
            units of several layers, or were silenced.
        averaged: which layers are averages.
    """

    groups: list[list[int]]
    kv_groups: list[list[Unit]]
    channels: list[list[Unit]]
    averaged: set[int]


def provenance(plan: Plan, kv_heads: int, channels: int) -> Provenance:
    """Follow every unit through a plan's steps.

    Args:
        plan: how the model was pruned.
        kv_heads, channels: how many KV groups and FFN channels a layer has.
    """
    mixed = [False] * plan.base.layers
    kv_rows = [[(layer, index) for index in range(kv_heads)] for layer in range(plan.base.layers)]
    channel_rows = [[(layer, index) for index in range(channels)] for layer in range(plan.base.layers)]
    silenced_kv: set[Unit] = set()
    silenced_channels: set[Unit] = set()
    for step in plan.steps:
        match step:
            case Concatenate(window=(first, last)):
                for rows, kept in ((kv_rows, step.kv_groups), (channel_rows, step.channels)):
                    # Units of an averaged layer are nobody's, so they cannot be picked by index.
                    rows[first : last + 1] = [
                        [rows[first + i][j] for i, indices in enumerate(kept) if rows[first + i] for j in indices]
                    ]
                mixed[first : last + 1] = [any(mixed[first : last + 1])]
            case Average(window=(first, last)):
                kv_rows[first : last + 1], channel_rows[first : last + 1] = [[]], [[]]
                mixed[first : last + 1] = [True]
            case Remove():
                for each in (kv_rows, channel_rows, mixed):
                    for layer in reversed(step.layers):
                        del each[layer]
            case Mask():
                for rows, units, gone in (
                    (kv_rows, step.kv_groups, silenced_kv),
                    (channel_rows, step.channels, silenced_channels),
                ):
                    gone |= {rows[layer][index] for layer, indices in units.items() for index in indices if rows[layer]}
    return Provenance(
        plan.groups(),
        [[unit for unit in row if unit not in silenced_kv] for row in kv_rows],
        [[unit for unit in row if unit not in silenced_channels] for row in channel_rows],
        {layer for layer, is_mixed in enumerate(mixed) if is_mixed},
    )
