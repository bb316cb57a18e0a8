"""What a plan keeps of each layer: read off its finished run, or foreseen from the measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import streamlit as st

from app.plan import planning
from app.state import session, visit
from app.state.choice import Draft
from come.errors import ComeError
from come.measurement.measurement import Measurement
from come.models import Facts
from come.plan import provenance
from come.plan.plan import Plan
from come.pruning.draft import DraftWindow


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
    try:
        return _foreseen(draft, measured, facts, session.choice().seed)
    except ComeError:
        return None  # the plan page and the strip say what is wrong with it


# The strip and the page below it ask the same.
@st.cache_resource(
    max_entries=32,
    show_spinner=False,
    hash_funcs={
        Measurement: lambda each: (id(each), float(each.block_influence.sum()), float(each.mlp_sensitivity.sum())),
        Facts: lambda each: (each.source, each.layers, each.parameters),
    },
)
def _foreseen(draft: Draft, measured: Measurement | None, facts: Facts, seed: int) -> Keeping | None:
    found = planning.forecast(draft, measured, facts, seed)
    return None if found is None else of_windows(found.windows, facts, found.removed)


def of_windows(windows: list[DraftWindow], facts: Facts, dropped: Sequence[int] = ()) -> Keeping:
    """What windows of original layers keep; of dropped layers nothing stays."""
    kept = {layer: Kept([], []) for layer in dropped}
    ends: dict[int, int] = {}
    for window in windows:
        ends[window.first] = window.last
        for offset, layer in enumerate(range(window.first, window.last + 1)):
            kept[layer] = Kept(list(window.kept_channels[offset]), list(window.kept_kv[offset]))
    return Keeping(groups_of(ends, facts.layers, dropped), kept, exact=False)


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


def of_plan(plan: Plan, facts: Facts) -> Keeping:
    """What the steps of a plan keep; layers that were averaged count as whole, because no unit of them is left out."""
    channels = provenance.follow(plan, "ffn", facts.intermediate_size)
    kv_groups = provenance.follow(plan, "attention", facts.num_key_value_heads)
    kept = {
        layer: Kept(np.flatnonzero(channels.kept(layer)).tolist(), np.flatnonzero(kv_groups.kept(layer)).tolist())
        for layer in range(facts.layers)
        if not channels.averaged[layer].any()
    }
    whole = (facts.intermediate_size, facts.num_key_value_heads)
    touched = {layer: each for layer, each in kept.items() if (len(each.channels), len(each.kv_groups)) != whole}
    return Keeping(plan.groups(), touched, exact=True)
