"""Which units a plan keeps of each original layer: read off the plan, or off the windows that are foreseen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from come.models import Facts
from come.plan import provenance
from come.plan.plan import Plan
from come.pruning.draft import DraftWindow


@dataclass(frozen=True)
class KeptUnits:
    """The kept units of one original layer: indices of its FFN channels and of its KV groups."""

    channels: list[int]
    kv_groups: list[int]


@dataclass(frozen=True)
class KeptByLayer:
    """Which units of which original layers a plan keeps.

    Attributes:
        groups: the original layers that each layer of the pruned model stands for; removed ones are in none.
        layers: what stays of each original layer that the plan touches.
        exact: it is read off a plan; else foreseen.
    """

    groups: list[list[int]]
    layers: dict[int, KeptUnits]
    exact: bool

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The merged layers, (first, last)."""
        return [(group[0], group[-1]) for group in self.groups if len(group) > 1]

    def mask(self, facts: Facts, part: str) -> np.ndarray:
        """Which units of each layer stay, (layers, units); part is "ffn" (channels) or "attention" (KV groups)."""
        units = facts.intermediate_size if part == "ffn" else facts.num_key_value_heads
        stays = np.ones((facts.layers, units), dtype=bool)
        for layer, kept in self.layers.items():
            stays[layer] = False
            stays[layer, kept.channels if part == "ffn" else kept.kv_groups] = True
        return stays


def of_windows(windows: list[DraftWindow], facts: Facts, dropped: Sequence[int] = ()) -> KeptByLayer:
    """What windows of original layers keep; of dropped layers nothing stays."""
    kept = {layer: KeptUnits([], []) for layer in dropped}
    ends: dict[int, int] = {}
    for window in windows:
        ends[window.first] = window.last
        for offset, layer in enumerate(range(window.first, window.last + 1)):
            kept[layer] = KeptUnits(list(window.kept_channels[offset]), list(window.kept_kv[offset]))
    return KeptByLayer(groups_of(ends, facts.layers, dropped), kept, exact=False)


def groups_of(ends: dict[int, int], layers: int, dropped: Sequence[int] = ()) -> list[list[int]]:
    """The layers in order but the dropped ones, a window's in one group; ends is its first -> its last.

    What of a window lies outside of the model, or runs backwards, is left aside.
    """
    groups: list[list[int]] = []
    layer = 0
    while layer < layers:
        last = min(max(ends.get(layer, layer), layer), layers - 1)
        if layer not in dropped:
            groups.append(list(range(layer, last + 1)))
        layer = last + 1
    return groups


def of_plan(plan: Plan, facts: Facts) -> KeptByLayer:
    """What the steps of a plan keep; layers that were averaged count as whole, because no unit of them is left out."""
    channels = provenance.follow(plan, "ffn", facts.intermediate_size)
    kv_groups = provenance.follow(plan, "attention", facts.num_key_value_heads)
    kept = {
        layer: KeptUnits(np.flatnonzero(channels.kept(layer)).tolist(), np.flatnonzero(kv_groups.kept(layer)).tolist())
        for layer in range(facts.layers)
        if not channels.averaged[layer].any()
    }
    whole = (facts.intermediate_size, facts.num_key_value_heads)
    touched = {layer: each for layer, each in kept.items() if (len(each.channels), len(each.kv_groups)) != whole}
    return KeptByLayer(plan.groups(), touched, exact=True)
