"""What a plan keeps of each layer: read off its finished run, or foreseen from the measurement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from app import planning, session, visit
from come.errors import ComeError
from come.measure import Measurement
from come.merge import Concatenate, DraftWindow, Plan
from come.models import Facts

Unit = tuple[int, int]  # original layer, index of a KV group or FFN channel in it


@dataclass(frozen=True)
class Kept:
    """What stays of one original layer: the indices of its FFN channels and of its KV groups."""

    channels: list[int]
    kv_groups: list[int]


@dataclass(frozen=True)
class Keeping:
    """What a plan keeps.

    Attributes:
        groups: the original layers that each layer of the pruned model stands for; removed ones are in none.
        layers: what stays of each original layer that the plan touches.
        exact: it is what a finished run kept; else foreseen.
    """

    groups: list[list[int]]
    layers: dict[int, Kept]
    exact: bool

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The merged layers, (first, last)."""
        return [(group[0], group[-1]) for group in self.groups if len(group) > 1]

    def shares(self, facts: Facts, part: str) -> np.ndarray:
        """The share of each layer that stays, (layers,); part is "ffn" (channels) or "attention" (KV groups)."""
        shares = np.ones(facts.layers)
        for layer, kept in self.layers.items():
            if part == "ffn":
                shares[layer] = len(kept.channels) / facts.intermediate_size
            else:
                shares[layer] = len(kept.kv_groups) / facts.num_key_value_heads
        return shares


def now(measured: Measurement | None, facts: Facts) -> Keeping | None:
    """What the visitor's plan keeps; None where that cannot be told before it runs."""
    run = visit.run_of_draft()
    if run is not None and run.state().status == "done":
        plan = run.plan()
        if plan is not None and plan.base.layers == facts.layers:
            return of_plan(plan, facts)
    draft = session.draft()
    if measured is None or draft.method != planning.MERGES:
        return None
    try:
        return of_windows(planning.windows(draft, measured, facts), facts)
    except ComeError:
        return None  # the plan page and the strip say what is wrong with it


def of_windows(windows: list[DraftWindow], facts: Facts) -> Keeping:
    """What windows of original layers keep."""
    kept: dict[int, Kept] = {}
    ends: dict[int, int] = {}
    for window in windows:
        ends[window.first] = window.last
        for offset, layer in enumerate(range(window.first, window.last + 1)):
            kept[layer] = Kept(list(window.kept_channels[offset]), list(window.kept_kv[offset]))
    return Keeping(groups_of(ends, facts.layers), kept, exact=False)


def groups_of(ends: dict[int, int], layers: int) -> list[list[int]]:
    """The layers in order, those from a window's first to its last in one group; ends is first -> last."""
    groups: list[list[int]] = []
    layer = 0
    while layer < layers:
        last = ends.get(layer, layer)
        groups.append(list(range(layer, last + 1)))
        layer = last + 1
    return groups


def of_plan(plan: Plan, facts: Facts) -> Keeping:
    """What the steps of a plan keep, each unit followed back to the original layer that it came from."""
    channels: list[list[Unit]] = [[(layer, i) for i in range(facts.intermediate_size)] for layer in range(facts.layers)]
    kv_groups: list[list[Unit]] = [
        [(layer, i) for i in range(facts.num_key_value_heads)] for layer in range(facts.layers)
    ]
    for step in plan.steps:
        if isinstance(step, Concatenate):
            channels = _merge(channels, step.window, step.channels)
            kv_groups = _merge(kv_groups, step.window, step.kv_groups)
        else:
            channels = [units for layer, units in enumerate(channels) if layer not in step.layers]
            kv_groups = [units for layer, units in enumerate(kv_groups) if layer not in step.layers]
    whole = {group[0] for group in plan.groups() if len(group) == 1}
    kept = {layer: Kept([], []) for layer in range(facts.layers) if layer not in whole}
    for units, pick in ((channels, "channels"), (kv_groups, "kv_groups")):
        for layer, index in (unit for row in units for unit in row):
            if layer in kept:
                getattr(kept[layer], pick).append(index)
    return Keeping(plan.groups(), kept, exact=True)


def _merge(units: list[list[Unit]], window: tuple[int, int], kept: list[list[int]]) -> list[list[Unit]]:
    """The units of every layer after a window's layers became one, which has those kept of each."""
    first, last = window
    merged = [units[first + offset][index] for offset, indices in enumerate(kept) for index in indices]
    return [*units[:first], merged, *units[last + 1 :]]
